"""Builds, publishes, serves and calls the AlexNet archive: what runs on an engineer's machine or in CI."""
