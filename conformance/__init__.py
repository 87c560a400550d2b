"""Asks any server of KServe's protocol whether it keeps it: `python -m conformance URL`. See README.md."""
