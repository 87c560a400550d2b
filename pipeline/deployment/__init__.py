"""A version on a cluster."""
