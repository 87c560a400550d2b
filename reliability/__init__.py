"""Faults, bad input, attacks and long runs, and their effects on this project's server and stock TorchServe."""
