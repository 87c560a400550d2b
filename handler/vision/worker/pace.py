"""How many images a batch of requests may have. TorchServe ends a worker that is silent for responseTimeout, and loses
every request it has: so what would take too long is refused before it is begun. So is what would take much memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from vision.errors import Busy, RequestError, TooLarge
from vision.protocol.request import Request, Verb

SHARE = 1 / 3  # of responseTimeout, for the network; decoding takes up to a half

# Of what the images of a batch are decoded to: 1,783 of 224 × 224 pixels, more than a batch has; or 248 of 600 × 600.
DECODED_BYTES = 256 * 2**20


# Of a batch, for its explanations: so much longer, or as one takes, do predictions wait that are in the same batch.
EXPLAINING_S = 1.0


def in_time(
    requests: list[Request | RequestError], image_s: float, timeout_s: float, crop: int
) -> list[Request | RequestError]:
    """The same, with an error in place of each request that is too much: for any batch (413), or for this one (503).

    image_s: the least that the network has taken for an image, in seconds. timeout_s: responseTimeout.
    crop: pixels of the square that an image becomes.
    """
    most = max(1, min(int(timeout_s * SHARE / image_s), DECODED_BYTES // (crop * crop * 3)))
    return _at_most(most, requests, Verb, "images: this model does not take more of them at once")


def in_time_to_explain(requests: list[Request | RequestError], image_s: float) -> list[Request | RequestError]:
    """The same for explanations alone. image_s: the least that one has taken, in seconds.

    One is always possible.
    """
    most = max(1, int(EXPLAINING_S / image_s))
    return _at_most(most, requests, (Verb.EXPLAIN,), "images: this model does not explain more of them at once")


def _at_most(
    most: int, requests: list[Request | RequestError], verbs: Iterable[Verb], unit: str
) -> list[Request | RequestError]:
    """verbs: whose images count."""
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
