"""What can be wrong with a request, and whose fault it is.

    RequestError (400)                the base: an HTTP status and a place
    ├── MalformedBody                 the body is not what its content type says
    ├── MalformedField                a field is missing or has the wrong form
    ├── NotAnImage                    bytes that no allowed decoder recognises
    ├── DamagedImage                  an image that is cut off or cannot be decoded
    ├── Unsupported                   a kind of image that is refused
    ├── UnsupportedType (415)         a content type that is not accepted
    ├── TooLarge (413)                more bytes, pixels or instances than the limits allow
    ├── UrlNotAllowed (403)           a URL that this server may not fetch
    ├── UrlFailed (502)               the other server gave a bad answer, or none
    ├── UrlTimedOut (504)             the other server took too long
    ├── Busy (503)                    more images at once than the model can answer in time
    └── Defect (500)                  our own fault

Every message begins with its place in the request, `instances[2].b64: …`. It repeats nothing of the client's own text
except short field names and numbers, so an error can neither leak an image nor forge a log line.
"""

from __future__ import annotations

from vision.image.formats import FORMATS_SENTENCE


class RequestError(Exception):
    """A request that is refused: `status` is the HTTP status, `str(error)` the sentence for the client."""

    status = 400

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}")


class MalformedBody(RequestError):
    def __init__(self, problem: str) -> None:
        super().__init__("body", problem)


class MalformedField(RequestError):
    pass


class NotAnImage(RequestError):
    def __init__(self, place: str) -> None:
        super().__init__(place, f"not an image ({FORMATS_SENTENCE} expected)")


class DamagedImage(RequestError):
    def __init__(self, place: str, image_format: str) -> None:
        super().__init__(place, f"the {image_format} image is truncated or damaged")


class Unsupported(RequestError):
    def __init__(self, place: str, what: str, advice: str = "") -> None:
        super().__init__(place, f"{what} is not supported" + (f": {advice}" if advice else ""))


class UnsupportedType(RequestError):
    status = 415

    def __init__(self, problem: str) -> None:
        super().__init__("content-type", problem)


class TooLarge(RequestError):
    status = 413

    def __init__(self, place: str, limit: int, unit: str) -> None:
        super().__init__(place, f"more than {limit} {unit}")


class UrlNotAllowed(RequestError):
    status = 403

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, f"not fetched: {reason}")


class UrlFailed(RequestError):
    status = 502

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(place, f"could not be fetched: {reason}")


class UrlTimedOut(RequestError):
    status = 504

    def __init__(self, place: str, seconds: float) -> None:
        super().__init__(place, f"no complete answer within {seconds:g} s")


class Busy(RequestError):
    status = 503

    def __init__(self) -> None:
        super().__init__("server", "the model is busy: try again")


class Defect(RequestError):
    status = 500

    def __init__(self) -> None:
        super().__init__("server", "internal error, see the server's log")
