"""What a client asks, whatever form its request came in."""

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
FORMS = (OVERLAY, GRID, GREY)  # of an explanation: a JPEG of the picture under its heat; numbers; a grey PNG of them


@dataclass(frozen=True)
class Wish:
    """What is to be explained, and how it is shown.

    class_index: for each image; None: the most probable of each. form: one of FORMS.
    """

    class_index: int | None = None
    form: str = OVERLAY


@dataclass(frozen=True)
class V2Answer:
    """How KServe v2 is to be answered.

    outputs: name of each, and whether its values go behind the JSON (or, over gRPC, into raw_output_contents).
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

    instances: each the JSON value of one instance, or the bytes of an image that was the body itself.
    places: how to name each instance in an error, `instances[0]` or `body`.
    top_k: how many classes to answer with, for each instance.
    wish: of an EXPLAIN. v2: of a request in KServe v2; None: it is answered in v1.
    """

    instances: list[object]
    places: list[str]
    top_k: int
    verb: Verb = Verb.PREDICT
    wish: Wish | None = None
    v2: V2Answer | None = None

    @property
    def field(self) -> str:
        """Where its images are, for an error that is about all of them."""
        return "instances" if self.v2 is None else "inputs"


def bounded(request: Request, limits: Limits, place_of_top_k: str) -> Request:
    """The request, if its answer is of a size that it may have; it asks for no more classes than there are then.

    Raises TooLarge (413): instances, or classes.
    """
    if len(request.instances) > limits.max_instances:
        raise TooLarge(request.field, limits.max_instances, "instances")
    request = replace(request, top_k=min(request.top_k, limits.classes))
    if len(request.instances) * request.top_k > limits.max_classes:
        raise TooLarge(place_of_top_k, limits.max_classes, "classes, for all instances together")
    return request
