"""Faults, bad input, attacks and long runs: what they do to this project's server, and to stock TorchServe."""
