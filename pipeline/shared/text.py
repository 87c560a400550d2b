"""Makes text from outside fit for a message and for a terminal."""

from __future__ import annotations

import re

# Control characters of ASCII and Latin-1 except the tab: escape sequences begin with them, and a line feed in a name
# forges a line. Unicode's own, which change the direction of the text around them, or end a line. And surrogates,
# which Python uses for file names that are not UTF-8.
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: object, most: int | None = 400) -> str:
    """Text on one line, with single spaces, cut after `most` characters."""
    return " ".join(str(text or "").split())[:most]


def first_line(text: object) -> str:
    """For libraries whose messages run to paragraphs."""
    return str(text).strip().partition("\n")[0]


def innermost(error: BaseException) -> str:
    """What the network itself said: google-auth, requests and urllib3 each wrap that in words of their own."""
    while True:
        inner = [getattr(error, "reason", None), *reversed(error.args)]
        wrapped = next((found for found in inner if isinstance(found, BaseException)), None)
        if wrapped is None:
            words = next((argument for argument in reversed(error.args) if isinstance(argument, str)), error)
            return re.sub(r"^\w+\(host='([^']*)', port=(\d+)\): ", r"\1:\2: ", first_line(words))
        error = wrapped


def without_secrets(url: str) -> str:
    """A URL as a user gave it, valid or not, without its name, password and query."""
    named = re.sub(r"(?is)^([a-z]+://)?.*@", r"\1…@", url)
    return re.sub(r"(?s)\?.*", "?…", named)


def printable(text: str) -> str:
    """Text that a terminal shows on one line and does not interpret: `\\x1b` for an escape, `\\n` for a line feed."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
