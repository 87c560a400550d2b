"""What the serving image is made of, what is known against it, and why that does no harm here."""
