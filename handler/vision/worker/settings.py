"""The handler's part of model-config.yaml, checked when the model is loaded rather than at the first request."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields

# A name or an IP address, and a port where it is not the scheme's own. No wildcards, no user, nothing after it.
HOST = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """What a request may ask for at most, and how many classes it is answered with. model-config.yaml says why."""

    max_image_bytes: int
    max_pixels: int
    max_request_pixels: int
    max_instances: int
    max_top_k: int
    default_top_k: int
    max_classes: int = 10_000  # settings from before it was there are read too


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
    limits: Limits
    url: UrlSettings


def read_settings(config: object) -> Settings:
    """The content of model-config.yaml → its `handler` part. Raises ValueError naming a setting that is wrong."""
    handler = _mapping(config, "handler", "")
    limits = _mapping(handler, "limits", "handler.")
    url = _mapping(handler, "url", "handler.")
    return Settings(
        threads=_count(handler, "threads", "handler."),
        max_batch=_count(handler, "max_batch", "handler."),
        limits=_limits(limits),
        precision=_word(handler, "precision"),
        device=_word(handler, "device"),
        url=_url_settings(url),
    )


def _limits(limits: dict[str, object]) -> Limits:
    names = [field.name for field in fields(Limits) if field.name in limits or field.default is MISSING]
    return Limits(**{name: _count(limits, name, "handler.limits.") for name in names})


def _url_settings(url: dict[str, object]) -> UrlSettings:
    if unknown := sorted(map(str, url.keys() - {field.name for field in fields(UrlSettings)})):
        raise ValueError(f"model-config.yaml: handler.url.{unknown[0]} is no setting")
    hosts, timeout_s, allow_http = url.get("allowed_hosts"), url.get("timeout_s"), url.get("allow_http")
    if not isinstance(hosts, list) or not all(isinstance(host, str) and HOST.fullmatch(host) for host in hosts):
        raise _wrong("handler.url.allowed_hosts", "a list of hosts")
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or not timeout_s > 0:  # NaN is not
        raise _wrong("handler.url.timeout_s", "a number of seconds above 0")
    if not isinstance(allow_http, bool):
        raise _wrong("handler.url.allow_http", "true or false")
    return UrlSettings(hosts, allow_http, timeout_s)


def _mapping(parent: object, name: str, above: str) -> dict[str, object]:
    value = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(value, dict):
        raise _wrong(above + name, "a mapping")
    return value


def _count(parent: dict[str, object], name: str, above: str) -> int:
    value = parent.get(name)
    if type(value) is not int or value <= 0:  # bool is an int too
        raise _wrong(above + name, "a whole number above 0")
    return value


def _word(handler: dict[str, object], name: str) -> str:
    value = handler.get(name)
    if not isinstance(value, str):
        raise _wrong(f"handler.{name}", "a word")
    return value


def _wrong(name: str, expected: str) -> ValueError:
    return ValueError(f"model-config.yaml: {name} must be {expected}")
