"""Versions as OCI artefacts: what one is made of, and its way into a registry and back."""
