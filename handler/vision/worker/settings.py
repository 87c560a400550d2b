"""The handler's part of model-config.yaml, checked when the model loads rather than at the first request."""

from __future__ import annotations

import re
import sys
from dataclasses import MISSING, dataclass, fields
from ipaddress import IPv4Address, IPv6Address

# A name or an IP address, and a port unless it is the scheme's default. No wildcards, no user, nothing after it.
HOST = re.compile(
    r"(\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>([a-z0-9_-]{1,63}\.)*(?P<last>[a-z0-9_-]{1,63})))(:(?P<port>[1-9][0-9]{0,4}))?",
    re.IGNORECASE,
)
LAST_PORT = 65_535
MOST = 2**31 - 1  # for any count: TorchServe reads it as a Java int
MOST_THREADS = 1024  # more than any machine has processors; some thousands cannot be started
# TorchServe's own settings that are whole numbers, and the minimum of each. TorchServe replaces invalid values with
# defaults and mentions it only in its log.
OF_TORCHSERVE = {
    "batchSize": 1,
    "maxBatchDelay": 0,
    "responseTimeout": 1,
    "startupTimeout": 1,
    "minWorkers": 0,
    "maxWorkers": 0,
}
BESIDE = {"response_timeout_s"}
RESPONSE_TIMEOUT_S = 120  # TorchServe's default for responseTimeout
ANSWER_BYTES = 1_040_000  # in one answer: a batch of sixteen fits into max_response_size (config.properties)


@dataclass(frozen=True)
class LimitSettings:
    """The most that a request may ask for, and how many classes it gets. model-config.yaml gives the reasons."""

    max_image_bytes: int
    max_pixels: int
    max_request_pixels: int
    max_instances: int
    max_top_k: int
    default_top_k: int
    max_classes: int = 10_000  # older settings lack it

    def of_model(self, classes: int, class_bytes: int) -> Limits:
        """classes: the number that the model has. class_bytes: the most bytes that one takes in an answer."""
        fitting = min(self.max_classes, ANSWER_BYTES // class_bytes)
        return Limits(**{**vars(self), "max_classes": fitting}, classes=classes)


@dataclass(frozen=True)
class Limits(LimitSettings):
    """The same for one model. classes: how many it has; a request for more gets all of them."""

    classes: int = sys.maxsize


@dataclass(frozen=True)
class UrlSettings:
    """Images by URL. timeout_s: in seconds, from the request to the last byte."""

    allowed_hosts: list[str]
    allow_http: bool
    timeout_s: float


@dataclass(frozen=True)
class Settings:
    """The `handler` part of model-config.yaml."""

    precision: str
    device: str
    threads: int
    max_batch: int
    limits: LimitSettings
    url: UrlSettings
    response_timeout_s: float  # TorchServe's setting, next to `handler`


def read_settings(config: object) -> Settings:
    """The content of model-config.yaml → its `handler` part. Raises ValueError naming an invalid setting."""
    handler = _mapping(config, "handler", "")
    limits = _mapping(handler, "limits", "handler.")
    url = _mapping(handler, "url", "handler.")
    for settings, kind, above in ((handler, Settings, "handler."), (limits, LimitSettings, "handler.limits.")):
        _refuse_unknown(settings, kind, above)
    timeout_s = _of_torchserve(config).get("responseTimeout", RESPONSE_TIMEOUT_S)
    return Settings(
        threads=_count(handler, "threads", "handler.", most=MOST_THREADS),
        max_batch=_count(handler, "max_batch", "handler."),
        limits=_limits(limits),
        precision=_word(handler, "precision"),
        device=_word(handler, "device"),
        url=_url_settings(url, timeout_s),
        response_timeout_s=timeout_s,
    )


def _limits(limits: dict[str, object]) -> LimitSettings:
    names = [field.name for field in fields(LimitSettings) if field.name in limits or field.default is MISSING]
    made = LimitSettings(**{name: _count(limits, name, "handler.limits.") for name in names})
    for most in ("max_top_k", "max_classes"):  # else every request without top_k would be refused
        if made.default_top_k > getattr(made, most):
            raise _wrong("handler.limits.default_top_k", f"at most {most}, which is {getattr(made, most)}")
    # Otherwise one limit would make part of the other unreachable.
    for lower, upper in (("max_top_k", "max_classes"), ("max_pixels", "max_request_pixels")):
        if getattr(made, lower) > getattr(made, upper):
            raise _wrong(f"handler.limits.{lower}", f"at most {upper}, which is {getattr(made, upper)}")
    return made


def _url_settings(url: dict[str, object], response_timeout_s: float) -> UrlSettings:
    _refuse_unknown(url, UrlSettings, "handler.url.")
    hosts, timeout_s, allow_http = url.get("allowed_hosts"), url.get("timeout_s"), url.get("allow_http")
    if not isinstance(hosts, list) or not all(map(_is_host, hosts)):
        raise _wrong("handler.url.allowed_hosts", "a list of hosts")
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not timeout_s > 0:  # NaN is not
        raise _wrong("handler.url.timeout_s", "a number of seconds above 0")
    if timeout_s >= response_timeout_s:  # a slow host would kill the worker with all requests of its batch
        raise _wrong("handler.url.timeout_s", f"less than responseTimeout, which is {response_timeout_s:g} s")
    if not isinstance(allow_http, bool):
        raise _wrong("handler.url.allow_http", "true or false")
    return UrlSettings(hosts, allow_http, timeout_s)


def _is_host(said: object) -> bool:
    found = HOST.fullmatch(said) if isinstance(said, str) else None
    if found is None or int(found["port"] or 0) > LAST_PORT:
        return False
    try:
        if found["ipv6"]:
            IPv6Address(found["ipv6"])
        elif found["last"].isdecimal():  # no name ends in a number
            IPv4Address(found["name"])
    except ValueError:
        return False
    return True


def _of_torchserve(config: object) -> dict[str, int]:
    """TorchServe's own settings that are present."""
    there = config if isinstance(config, dict) else {}
    return {name: _count(there, name, "", least) for name, least in OF_TORCHSERVE.items() if name in there}


def _refuse_unknown(settings: dict[str, object], kind: type, above: str) -> None:
    known = {field.name for field in fields(kind)} - BESIDE
    if unknown := sorted(map(str, settings.keys() - known)):
        raise ValueError(f"model-config.yaml: {above}{unknown[0]} is not a setting")


def _mapping(parent: object, name: str, above: str) -> dict[str, object]:
    value = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(value, dict):
        raise _wrong(above + name, "a mapping")
    return value


def _count(parent: dict[str, object], name: str, above: str, least: int = 1, most: int = MOST) -> int:
    value = parent.get(name)
    if type(value) is not int or value < least:  # bool is an int too
        raise _wrong(above + name, "a whole number above 0" if least else "a whole number, 0 or more")
    if value > most:
        raise _wrong(above + name, f"at most {most}")
    return value


def _word(handler: dict[str, object], name: str) -> str:
    value = handler.get(name)
    if not isinstance(value, str):
        raise _wrong(f"handler.{name}", "a word")
    return value


def _wrong(name: str, expected: str) -> ValueError:
    return ValueError(f"model-config.yaml: {name} must be {expected}")
