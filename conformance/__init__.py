"""Checks whether any server follows KServe's protocol: `python -m conformance URL`. See README.md."""
