"""What a client asks, whatever form its request came in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One client's request.

    instances: each the JSON value of one instance, or the bytes of an image that was the body itself.
    places: how to name each instance in an error, `instances[0]` or `body`.
    top_k: how many classes to answer with, for each instance.
    """

    instances: list[object]
    places: list[str]
    top_k: int
