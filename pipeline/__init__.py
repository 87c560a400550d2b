"""Builds, publishes, serves, calls and deploys the AlexNet archive: what runs on an engineer's machine or in CI."""
