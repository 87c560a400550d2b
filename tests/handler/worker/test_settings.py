"""Invalid settings are reported when the model loads."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import pytest

from vision.worker.settings import read_settings


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (["limits", "max_pixels"], None, "handler.limits.max_pixels must be a whole number above 0"),
        (["limits", "max_pixels"], "50 million", "handler.limits.max_pixels must be a whole number above 0"),
        (["limits", "default_top_k"], 0, "handler.limits.default_top_k must be a whole number above 0"),
        (["limits"], None, "handler.limits must be a mapping"),
        (["max_batch"], 0, "handler.max_batch must be a whole number above 0"),
        (["threads"], True, "handler.threads must be a whole number above 0"),
        (["threads"], 1_000_000, "handler.threads must be at most 1024"),
        (["thread"], 1, "handler.thread is not a setting"),
        (["limits", "max_topk"], 5, "handler.limits.max_topk is not a setting"),
        (["limits", "default_top_k"], 1001, "handler.limits.default_top_k must be at most max_top_k, which is 1000"),
        (["limits", "max_top_k"], 4, "handler.limits.default_top_k must be at most max_top_k, which is 4"),
        (["limits", "max_classes"], 4, "handler.limits.default_top_k must be at most max_classes, which is 4"),
        (["limits", "max_classes"], 999, "handler.limits.max_top_k must be at most max_classes, which is 999"),
        (
            ["limits", "max_request_pixels"],
            1_000_000,
            "handler.limits.max_pixels must be at most max_request_pixels, which is 1000000",
        ),
        (["url", "allowed_hosts"], ["example.org:99999"], "handler.url.allowed_hosts must be a list of hosts"),
        (["url", "allowed_hosts"], ["example.org:65536"], "handler.url.allowed_hosts must be a list of hosts"),
        (["url", "allowed_hosts"], ["example.org:0"], "handler.url.allowed_hosts must be a list of hosts"),
        (["url", "timeout_s"], float("inf"), "handler.url.timeout_s must be less than responseTimeout, which is 120 s"),
        (["url", "timeout_s"], 1e300, "handler.url.timeout_s must be less than responseTimeout, which is 120 s"),
        (["url", "timeout_s"], 120, "handler.url.timeout_s must be less than responseTimeout, which is 120 s"),
        (["max_batch"], 2**31, "handler.max_batch must be at most 2147483647"),
        (["limits", "max_image_bytes"], 10**30, "handler.limits.max_image_bytes must be at most 2147483647"),
        (["precision"], 16, "handler.precision must be a word"),
        (["url"], [], "handler.url must be a mapping"),
        (["url", "allowed_hosts"], "example.org", "handler.url.allowed_hosts must be a list of hosts"),
        (["url", "allowed_hosts"], [5], "handler.url.allowed_hosts must be a list of hosts"),
        (["url", "allowed_hosts"], ["https://example.org"], "handler.url.allowed_hosts must be a list of hosts"),
        (["url", "allowed_hosts"], ["*.example.org"], "handler.url.allowed_hosts must be a list of hosts"),
        (["url", "allowed_hosts"], ["example.org."], "handler.url.allowed_hosts must be a list of hosts"),
        (["url", "allowed_hosts"], ["user@example.org"], "handler.url.allowed_hosts must be a list of hosts"),
        *(
            (["url", "allowed_hosts"], [host], "handler.url.allowed_hosts must be a list of hosts")
            for host in ("999.1.1.1", "10.0.1", "a.example.7", "0x7f.1", "[1]", "[:::::]", "[192.0.2.1]", 64 * "a")
        ),
        (["url", "allow_http"], "yes", "handler.url.allow_http must be true or false"),
        (["url", "timeout_s"], 0, "handler.url.timeout_s must be a number of seconds above 0"),
        (["url", "timeout_s"], float("nan"), "handler.url.timeout_s must be a number of seconds above 0"),
        (["url", "timeout_s"], True, "handler.url.timeout_s must be a number of seconds above 0"),
        (["url", "allowed_host"], "example.org", "handler.url.allowed_host is not a setting"),
    ],
)
def test_a_wrong_setting_is_named(config: dict[str, Any], place: list[str], value: Any, sentence: str) -> None:
    wrong = copy.deepcopy(config)
    *above, last = place
    parent = wrong["handler"]
    for name in above:
        parent = parent[name]
    parent[last] = value
    with pytest.raises(ValueError, match=rf"^model-config.yaml: {sentence}$"):
        read_settings(wrong)


@pytest.mark.parametrize("name", ["batchSize", "responseTimeout", "startupTimeout"])
@pytest.mark.parametrize("value", [None, 0, -1, True, 1.5, "60", "60s", float("inf"), 2**31])
def test_a_number_of_torchserves_that_it_would_pass_over_is_named(
    config: dict[str, Any], name: str, value: object
) -> None:
    """It logs "Invalid batchSize: true, should be integer", and uses its default."""
    with pytest.raises(
        ValueError, match=rf"^model-config.yaml: {name} must be (a whole number above 0|at most 2147483647)$"
    ):
        read_settings({**config, name: value})


def test_of_torchserves_numbers_some_may_be_none_at_all(config: dict[str, Any]) -> None:
    zero = {"maxBatchDelay": 0, "minWorkers": 0, "maxWorkers": 0}
    assert read_settings({**config, **zero}) == read_settings(config)
    without = {name: value for name, value in config.items() if name == "handler"}
    assert read_settings(without).response_timeout_s == 120
    for name in zero:
        with pytest.raises(ValueError, match=rf"^model-config.yaml: {name} must be a whole number, 0 or more$"):
            read_settings({**config, name: -1})


@pytest.mark.parametrize("config", [None, {}, {"handler": None}, {"handler": []}])
def test_no_settings_at_all(config: Any) -> None:
    with pytest.raises(ValueError, match=r"^model-config.yaml: handler must be a mapping$"):
        read_settings(config)


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "IMAGES.example.org:8443",
        "localhost",
        "192.0.2.1",
        "[2001:db8::1]:443",
        "a.example:1",
        "a.example:65535",
    ],
)
def test_hosts_that_can_be_listed(config: dict[str, Any], host: str) -> None:
    listed = copy.deepcopy(config)
    listed["handler"]["url"]["allowed_hosts"] = [host]
    assert read_settings(listed).url.allowed_hosts == [host]


def test_a_model_may_have_fewer_classes_than_may_be_asked_for(config: dict[str, Any]) -> None:
    limits = read_settings(config).limits
    of_five = limits.of_model(classes=5, class_bytes=100)
    assert of_five.classes == 5
    assert {**asdict(of_five), **asdict(limits)} == asdict(of_five)  # all others are unchanged


def test_where_labels_are_long_an_answer_has_fewer_classes(config: dict[str, Any]) -> None:
    limits = read_settings(config).limits
    assert limits.of_model(classes=1000, class_bytes=104).max_classes == limits.max_classes
    assert limits.of_model(classes=1000, class_bytes=105).max_classes == 1_040_000 // 105


def test_a_host_may_be_slower_where_the_worker_may_be_too(config: dict[str, Any]) -> None:
    slow = copy.deepcopy(config)
    slow["responseTimeout"], slow["handler"]["url"]["timeout_s"] = 601, 600
    assert read_settings(slow).url.timeout_s == 600


def test_the_settings_of_the_archive_are_right(config: dict[str, Any]) -> None:
    beside = {"response_timeout_s": config["responseTimeout"]}
    assert asdict(read_settings(config)) == config["handler"] | beside
