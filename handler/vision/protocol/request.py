"""What a client asks, whatever form its request came in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vision.errors import TooLarge
from vision.worker.settings import Limits


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


def bounded(request: Request, limits: Limits, place_of_top_k: str = "parameters.top_k") -> Request:
    """The request, if its answer is of a size that it may have; it asks for no more classes than there are then.

    Raises TooLarge (413): instances, or classes.
    """
    if len(request.instances) > limits.max_instances:
        raise TooLarge("instances", limits.max_instances, "instances")
    request = replace(request, top_k=min(request.top_k, limits.classes))
    if len(request.instances) * request.top_k > limits.max_classes:
        raise TooLarge(place_of_top_k, limits.max_classes, "classes, for all instances together")
    return request
