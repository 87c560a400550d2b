"""What scripts/ and the Makefile run: a file for each command, and files.py, which they share."""
