"""Used by every room: errors, signals, ports, HTTP, and output to the terminal."""
