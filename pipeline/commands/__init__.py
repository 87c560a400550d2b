"""The commands that scripts/ and the Makefile run: one file each, and files.py, which they share."""
