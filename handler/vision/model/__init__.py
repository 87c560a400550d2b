"""Pixels to probabilities; no JSON."""
