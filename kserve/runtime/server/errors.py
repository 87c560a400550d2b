"""Errors that keep the server from starting."""

from __future__ import annotations


class NotServed(Exception):
    """The sentence says why nothing is served."""
