"""Versions as OCI artefacts: their contents, and how they are pushed and pulled."""
