"""What a client asks, independent of the format of its request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from vision.errors import TooLarge
from vision.worker.settings import Limits


class Verb(Enum):
    """What is asked of the model."""

    PREDICT = 1
    EXPLAIN = 2


OVERLAY, GRID, GREY = "overlay", "grid", "grey"
FORMS = (OVERLAY, GRID, GREY)  # of an explanation: a JPEG of the picture with the heat; numbers; the same as a grey PNG


@dataclass(frozen=True)
class Wish:
    """What to explain, and how to show it.

    class_index: the same for each image; None: the most probable class of each. form: one of FORMS.
    """

    class_index: int | None = None
    form: str = OVERLAY


@dataclass(frozen=True)
class V2Answer:
    """How to answer in KServe v2.

    outputs: the name of each, and whether its values follow the JSON (or, over gRPC, go into raw_output_contents).
    grpc: the answer is a ModelInferResponse in JSON.
    """

    model_name: str
    model_version: str
    id: str | None
    outputs: tuple[tuple[str, bool], ...]
    grpc: bool = False


@dataclass(frozen=True)
class Request:
    """One client's request.

    instances: the JSON value of each instance, or the bytes of an image that was the whole body.
    places: how to name each instance in an error, `instances[0]` or `body`.
    top_k: how many classes to return for each instance.
    wish: set for EXPLAIN. v2: set for KServe v2; None: the answer is in v1.
    """

    instances: list[object]
    places: list[str]
    top_k: int
    verb: Verb = Verb.PREDICT
    wish: Wish | None = None
    v2: V2Answer | None = None

    @property
    def field(self) -> str:
        """The field with the images, for errors about all of them."""
        return "instances" if self.v2 is None else "inputs"


def bounded(request: Request, limits: Limits, place_of_top_k: str) -> Request:
    """The request with top_k lowered to the number of classes, if its answer is small enough.

    Raises TooLarge (413) for too many instances or classes.
    """
    if len(request.instances) > limits.max_instances:
        raise TooLarge(request.field, limits.max_instances, "instances")
    request = replace(request, top_k=min(request.top_k, limits.classes))
    if len(request.instances) * request.top_k > limits.max_classes:
        raise TooLarge(place_of_top_k, limits.max_classes, "classes for all instances together")
    return request
