"""Deploying a version to a cluster."""
