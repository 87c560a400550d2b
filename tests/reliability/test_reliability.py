"""The quick faults, against the container's command; `make reliability` tries all of them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from pipeline.shared.errors import PipelineError
from reliability import page, results
from reliability.__main__ import EACH_FAULT, chosen
from reliability.attack_surface import Surface
from reliability.bad_input import Answers
from reliability.candidates import Candidates, Judged, answered, compared
from reliability.cgroups import Impossible
from reliability.clients import agree, probabilities
from reliability.faults import FAULTS
from reliability.faults.outcome import Outcome, Seen, judged
from reliability.faults.processes import NOTICE_S, SHORT_SHUTDOWN
from reliability.faults.resources import logged_span_s
from reliability.faults.traffic import Rates, overload_faults
from reliability.servers import OURS, STOCK, Servers
from reliability.soak import Size, Soak

# Silent and slow clients are in tests/door too.
QUICK = ("all_workers_killed", "envoy_killed", "clients_vanish", "log_full")


@pytest.fixture(scope="module")
def servers(directory: Path) -> Servers:
    return Servers(OURS, directory)


@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost_beyond_the_batch_in_flight(
    servers: Servers, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reliability.faults.load.WARM_UP_S", 0.5)
    monkeypatch.setattr("reliability.faults.load.STEADY_S", 1)
    try:
        outcome = asyncio.run(FAULTS[name](servers))
    except Impossible as reason:
        pytest.skip(str(reason))
    # How long it takes depends on the machine's other work: only `make reliability` checks that.
    assert not [fault for fault in outcome.failed if not fault.startswith("no answer for")], outcome


def test_a_short_notice_is_tried_with_what_the_component_says() -> None:
    component = Path(__file__).resolve().parents[2] / "kserve" / "components" / "short-shutdown"
    patch = yaml.safe_load((component / "kustomization.yaml").read_text())["patches"][0]["patch"]
    assert {each["value"]["name"]: each["value"]["value"] for each in yaml.safe_load(patch)} == SHORT_SHUTDOWN
    assert f"give a pod {NOTICE_S} s" in (component / "README.md").read_text()


def test_a_wrong_answer_is_noticed() -> None:
    right = probabilities(b'{"predictions": [{"classes": [{"label": "tabby", "probability": 0.4}]}]}')
    assert agree(right, right)
    assert not agree({"tabby": 0.5}, right)
    assert not agree({"lynx": 0.4}, right)


FINE = Seen(
    start_s=3.0,
    outcomes={"200": 2000, "503": 30000},
    lost=16,
    in_flight=16,
    serves=True,
    outage_s=7.9,
    latency_p50_s=0.1,
    latency_p99_s=1.6,
    latency_max_s=1.7,
    bodies={},
)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (FINE, []),
        (replace(FINE, outcomes={"no answer": 2, "wrong answer": 1}), ["2 × no answer", "1 × wrong answer"]),
        (replace(FINE, lost=17), ["1 requests lost beyond what was in flight"]),
        (replace(FINE, outage_s=8.1), ["no answer for 8.1 s"]),
        (replace(FINE, outage_s=None), ["nothing was answered afterwards"]),
        (replace(FINE, outage_s=None, serves=False), []),
    ],
)
def test_what_a_fault_should_not_do_is_noticed(seen: Seen, told: list[str]) -> None:
    assert judged(seen, False).failed == told
    assert judged(seen, "it crashed").failed == ["it crashed", *told]


RATES = Rates(capacity=480, offered=3500, answered=200)


@pytest.mark.parametrize(
    ("seen", "rates", "told"),
    [
        (FINE, RATES, []),
        (replace(FINE, outcomes={"200": 2000}), RATES, ["nothing was refused"]),
        (FINE, replace(RATES, offered=2000), ["the clients requested less than 5 times the capacity"]),
        (replace(FINE, latency_p99_s=4.0), RATES, ["accepted requests took longer than 3.5 s (p99)"]),
    ],
)
def test_an_overload_that_was_none_or_was_not_refused_is_noticed(seen: Seen, rates: Rates, told: list[str]) -> None:
    assert overload_faults(seen, rates, held=232) == told


def test_a_clock_that_jumped_is_seen_in_the_log() -> None:
    ours = '{"time":"2026-11-22T20:51:28.841Z"}\n{"time": "%sT20:51:40Z"}\n'
    stock = "2026-11-22T20:51:28,841 [INFO ] main\n%sT20:51:40,000 [INFO ] main\n"
    for log in (ours, stock):
        assert logged_span_s(log % "2026-11-21") == 24 * 3600 - 12
        assert logged_span_s(log % "2026-11-22") == 12
    assert logged_span_s("no time at all") == 0


FINE_ANSWERS = Answers("2026-11-22", 3, {"200": 1, "400": 2}, 0, 0.5, "png chunks", 1459, 0, 0)


@pytest.mark.parametrize(
    "harmed",
    [
        replace(FINE_ANSWERS, statuses={"200": 1, "400": 1, "503": 1}),
        replace(FINE_ANSWERS, refusals_without_a_place=1),
        replace(FINE_ANSWERS, slowest_s=2.1),
        replace(FINE_ANSWERS, beside_lost=1),
        replace(FINE_ANSWERS, workers_replaced=1),
    ],
)
def test_bad_input_that_does_harm_is_noticed(harmed: Answers) -> None:
    assert FINE_ANSWERS.failed == []
    assert len(harmed.failed) == 1


FINE_SURFACE = Surface("2026-11-22", ["health", "inference"], {"its models are listed": "no (404)"})


def test_what_another_host_can_do_is_noticed() -> None:
    assert FINE_SURFACE.failed == []
    assert len(replace(FINE_SURFACE, open=["health", "inference", "metrics"]).failed) == 1
    assert len(replace(FINE_SURFACE, steps={"its models are listed": "yes (200)"}).failed) == 1


STEADY = Size(workers_mb=747, java_mb=164, descriptors=80, threads=42, files=24)
FINE_SOAK = Soak("2026-11-22", 100_000, 100_411, 233.0, {"200": 100_411}, [STEADY] * 11)


def test_growth_is_noticed() -> None:
    assert FINE_SOAK.failed == []
    assert replace(FINE_SOAK, outcomes={"200": 100_410, "503": 1}).failed == ["1 × 503"]
    for grown in (replace(STEADY, workers_mb=768), replace(STEADY, files=25)):
        assert len(replace(FINE_SOAK, sizes=[STEADY] * 9 + [grown] * 2).failed) == 1


# --- Versions that are compared ---------------------------------------------------------------------------------------

SHIFTED, PAIRED = Judged("labels", "shifted", 0, 0.5, False), Judged("labels", "paired", 1, 0.1, True)
ROUNDED = Judged("rounded", "to bfloat16", 1, 0.002, True)
LAX = Candidates("2026-11-30", 60, 0.9, [SHIFTED, PAIRED], [ROUNDED])


def test_a_version_that_is_judged_wrongly_is_noticed() -> None:
    assert LAX.failed == ["promoted although damaged: labels, paired"]
    assert replace(LAX, damaged=[SHIFTED], equal=[ROUNDED]).failed == []
    assert replace(LAX, damaged=[], equal=[SHIFTED]).failed == ["refused although equal: labels, shifted"]
    assert Candidates.of(asdict(LAX)) == LAX


@pytest.mark.slow
def test_there_are_at_least_fifty_of_either_sort() -> None:
    from reliability import variants

    equal = [*variants.equal_here(), *(it for name in variants.PROCESSORS for it in variants.equal_elsewhere(name))]
    for several, count in ((variants.damaged(), 53), (equal, 50)):
        assert len({(it.kind, it.name) for it in several}) == len(several) == count


@pytest.mark.slow
def test_of_some_versions_the_damaged_are_refused_and_the_equal_promoted(tmp_path: Path) -> None:
    """`make reliability ONLY=candidates` tries all of them."""
    from reliability import golden_set, variants

    images, state = golden_set.golden()[:20], golden_set.fitted_state()
    labels = [(f"n{index}", f"label {index}") for index in range(1000)]
    tried = {it.name: it for it in variants.damaged()}
    base = answered(variants.probabilities(variants.Variant("", ""), state, images, tmp_path), labels)

    def promoted(it: variants.Variant) -> bool:
        found = variants.probabilities(it, state, images, tmp_path)
        return Judged.of("", "", compared(base, answered(found, it.labels(labels)))).promoted

    refused = ("shifted by one", "BGR", "in pairs", "one class favoured")
    assert [name for name in refused if promoted(tried[name])] == []
    assert promoted(variants.Variant("", "other batches", batch=3, threads=1))


# --- The command and the page -----------------------------------------------------------------------------------------


def test_the_parts_are_chosen_by_name() -> None:
    assert chosen(["soak", "faults"]) == ["soak", *EACH_FAULT]
    assert chosen(["faults:overload"]) == ["faults:overload"]
    with pytest.raises(PipelineError, match="no part is called storm: choose from faults, bad-input, "):
        chosen(["storm"])


def test_the_page_is_written_from_results_that_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    copy = tmp_path / "page.md"
    text = page.PAGE.read_text(encoding="utf-8")
    copy.write_text(text, encoding="utf-8")
    told: list[str] = []
    page.write(told.append, copy)
    assert (copy.read_text(encoding="utf-8"), len(told)) == (text, 7)

    outcomes = {name: asdict(judged(FINE)) for name in FAULTS}
    outcomes |= {"disk_full": asdict(Outcome([], skipped="it takes root")), "overload": asdict(Outcome(["TypeError"]))}
    results.write("faults", OURS, outcomes)
    results.write("faults", STOCK, {"overload": asdict(judged(FINE))})
    results.write("soak", STOCK, asdict(replace(FINE_SOAK, asked=1500)))
    results.write("bad-input", OURS, asdict(FINE_ANSWERS))
    results.write("candidates", OURS, asdict(LAX))
    for kind in (OURS, STOCK):
        results.write("attack-surface", kind, asdict(FINE_SURFACE))
    told.clear()
    page.write(told.append, copy)
    written = copy.read_text(encoding="utf-8")
    assert {line.split(":")[0] for line in told} == {"faults-stock", "soak-ours", "bad-input"}
    assert "| damaged: labels | 2 | 1 | 1 | 0.0% to 100.0% | 0.1000 to 0.5000 |" in written
    assert "| **equal, all** | 1 | 0 | 1 | 100.0% to 100.0% | 0.0020 to 0.0020 |" in written
    assert "| java killed | 0 (16 of at most 16) | 7.90 s | 0.10 s, 1.60 s | 2000 × 200, 30000 × 503 |  |" in written
    assert "| disk full | not tried: it takes root |" in written
    assert "| overload | **TypeError** |" in written
    assert "python -P -m reliability --only soak --server stock --requests 1500`" in written
    assert "| its models are listed | no (404) | no (404) |" in written


def test_the_page_says_how_a_soak_was_started() -> None:
    assert page.soak_command(OURS, 100_000) == "make reliability ONLY=soak SERVER=ours"
    shorter = "PYTHONPATH=. python -P -m reliability --only soak --server stock --requests 1500"
    assert page.soak_command("stock", 1500) == shorter


def test_the_page_has_every_marker() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    for marker in (
        "faults-ours",
        "faults-stock",
        "soak-ours",
        "soak-stock",
        "bad-input",
        "attack-surface",
        "candidates",
    ):
        assert text.count(f"<!-- {marker} -->") == 1


def test_nothing_measured_here_needs_the_tests() -> None:
    checkout = page.PAGE.parents[1]
    for folder in ("reliability", "benchmarks"):
        for file in (checkout / folder).rglob("*.py"):
            assert not re.search(r"^\s*(from|import) tests\b", file.read_text(encoding="utf-8"), re.MULTILINE), file
