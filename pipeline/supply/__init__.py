"""The contents of the serving image, the known vulnerabilities in it, and why they do no harm here."""
