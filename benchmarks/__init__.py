"""Measures this project against what people would use instead, and against the limit of the machine: `make bench`."""
