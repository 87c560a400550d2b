"""A worker's environment: its settings, processors and files."""
