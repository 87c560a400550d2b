"""The handler's part of model-config.yaml, checked when the model is loaded rather than at the first request."""

from __future__ import annotations

import re
from typing import Any

COUNTS = ("threads", "max_batch")
LIMITS = ("max_image_bytes", "max_pixels", "max_request_pixels", "max_instances", "max_top_k", "default_top_k")

# A name or an IP address, and a port where it is not the scheme's own. No wildcards, no user, nothing after it.
HOST = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?", re.IGNORECASE)


def check_settings(config: Any) -> dict[str, Any]:
    """The content of model-config.yaml → its `handler` part. Raises ValueError naming a setting that is wrong."""
    settings = _mapping(config, "handler", "")
    limits = _mapping(settings, "limits", "handler.")
    url = _mapping(settings, "url", "handler.")
    for name in COUNTS:
        _check(_is_count(settings.get(name)), f"handler.{name}", "a whole number above 0")
    for name in LIMITS:
        _check(_is_count(limits.get(name)), f"handler.limits.{name}", "a whole number above 0")
    for name in ("precision", "device"):
        _check(isinstance(settings.get(name), str), f"handler.{name}", "a word")
    hosts, timeout_s = url.get("allowed_hosts"), url.get("timeout_s")
    _check(
        isinstance(hosts, list) and all(isinstance(host, str) and HOST.fullmatch(host) for host in hosts),
        "handler.url.allowed_hosts",
        "a list of hosts",
    )
    _check(
        isinstance(timeout_s, (int, float)) and timeout_s > 0, "handler.url.timeout_s", "a number of seconds above 0"
    )
    _check(type(url.get("allow_http")) is bool, "handler.url.allow_http", "true or false")
    return settings


def _mapping(parent: Any, name: str, above: str) -> dict[str, Any]:
    value = parent.get(name) if isinstance(parent, dict) else None
    _check(isinstance(value, dict), f"{above}{name}", "a mapping")
    return dict(value or {})


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _check(right: bool, name: str, expected: str) -> None:
    if not right:
        raise ValueError(f"model-config.yaml: {name} must be {expected}")
