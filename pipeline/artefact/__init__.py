"""Builds weights, the archive, a version and its signature. Local files only."""
