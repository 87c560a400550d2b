"""Bytes to pixels: RGB, uint8; no protocol."""
