"""How many images a batch of requests may have. TorchServe kills a worker that is silent for responseTimeout, and loses
all its requests. So whatever would take too long, or too much memory, is refused before it is started.
"""

from __future__ import annotations

from collections.abc import Iterable

from vision.errors import Busy, RequestError, TooLarge
from vision.protocol.request import Request, Verb

SHARE = 1 / 3  # of responseTimeout, for the network; decoding takes up to a half

# All decoded images of a batch: 1,783 of 224 × 224 pixels, more than a batch has; or 248 of 600 × 600.
DECODED_BYTES = 256 * 2**20


# For all explanations of a batch: predictions in the same batch wait this much longer, or as long as one takes.
EXPLAINING_S = 1.0


def in_time(
    requests: list[Request | RequestError], image_s: float, timeout_s: float, crop: int
) -> list[Request | RequestError]:
    """The requests, with an error in place of each that is too large for any batch (413) or for this one (503).

    image_s: the shortest time that the network has taken for an image, in seconds. timeout_s: responseTimeout.
    crop: the side of the square that an image becomes, in pixels.
    """
    most = max(1, min(int(timeout_s * SHARE / image_s), DECODED_BYTES // (crop * crop * 3)))
    return _at_most(most, requests, Verb, "images: this model does not accept more at once")


def in_time_to_explain(requests: list[Request | RequestError], image_s: float) -> list[Request | RequestError]:
    """The same for explanations only. image_s: the shortest time that one has taken, in seconds.

    One image is always allowed.
    """
    most = max(1, int(EXPLAINING_S / image_s))
    return _at_most(most, requests, (Verb.EXPLAIN,), "images: this model does not explain more at once")


def _at_most(
    most: int, requests: list[Request | RequestError], verbs: Iterable[Verb], unit: str
) -> list[Request | RequestError]:
    """verbs: those whose images count."""
    counted, taken = tuple(verbs), 0
    outcomes: list[Request | RequestError] = []
    for request in requests:
        if isinstance(request, RequestError):
            outcomes.append(request)
            continue
        count = len(request.instances) if request.verb in counted else 0
        if count > most:
            outcomes.append(TooLarge(request.field, most, unit))
        elif taken + count > most:
            outcomes.append(Busy())
        else:
            outcomes.append(request)
            taken += count
    return outcomes
