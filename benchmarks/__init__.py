"""Measures this project against the alternatives, and against the limit of the machine: `make bench`."""
