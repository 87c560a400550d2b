"""What every room uses: errors, signals, ports, HTTP, and how commands speak."""
