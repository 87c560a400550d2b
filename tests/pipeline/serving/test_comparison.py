"""How far apart two servers' answers are, and which server is asked when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.serving.comparing import MOST_CLASSES, SILENT, Ask, Picture, ask_both, warm_up
from pipeline.serving.comparison import Answer, Comparison, Latency, Outcome
from pipeline.serving.comparison_table import tables
from pipeline.serving.protocol import Class
from pipeline.shared.errors import AnotherModel, GaveUp, NoCommonClass, NotClassified, NothingCompared, TooManyCalls
from pipeline.shared.terminal import PlainConsole

LABELS = "abcdefgh"


def classes(*probabilities: float, shift: int = 0) -> list[Class]:
    """The classes 0, 1, … with these probabilities, the most probable first. shift: the labels' offset."""
    found = [
        Class(index=index, wnid="", label=LABELS[index + shift], probability=probability)
        for index, probability in enumerate(probabilities)
    ]
    return sorted(found, key=lambda entry: -entry["probability"])


def answers(*found: list[Class] | str) -> list[Answer]:
    return [Answer(0.1, problem=each) if isinstance(each, str) else Answer(0.1, each) for each in found]


def outcome(a: list[Class] | str, b: list[Class] | str) -> Outcome:
    return Outcome.of("p.jpg", answers(a), answers(b))


def test_the_same_answer_agrees_and_has_not_moved() -> None:
    found = outcome(classes(0.7, 0.2, 0.1), classes(0.7, 0.2, 0.1))
    assert (found.agrees, found.movement) == (True, 0)


def test_the_movement_is_the_largest_of_any_class() -> None:
    found = outcome(classes(0.7, 0.2, 0.1), classes(0.65, 0.05, 0.3))
    assert found.agrees
    assert found.movement == pytest.approx(0.2)


def test_another_first_class_does_not_agree() -> None:
    assert outcome(classes(0.5, 0.4), classes(0.4, 0.5)).agrees is False


def test_the_same_class_with_another_label_does_not_agree_and_has_moved() -> None:
    """Labels shifted by one: every index and every probability is right."""
    found = outcome(classes(0.7, 0.3), classes(0.7, 0.3, shift=1))
    assert (found.agrees, found.movement) == (False, 0.7)


def test_the_same_label_at_another_index_does_not_agree() -> None:
    """ImageNet has two cranes."""
    one, other = classes(0.7, 0.3), classes(0.7, 0.3)
    other[0]["index"] = 9
    assert outcome(one, other).agrees is False


def test_servers_that_tell_no_index_are_compared_by_label() -> None:
    bare: list[Class] = [{"label": "a", "probability": 1.0}]
    assert outcome(bare, bare).agrees is True


def test_what_b_does_not_answer_does_not_agree() -> None:
    found = outcome(classes(1.0), "500: broken")
    assert (found.agrees, found.movement, found.b.problems, found.b.seconds) == (False, None, ["500: broken"], [])


@pytest.mark.parametrize("b", [classes(1.0), "400: not an image"])
def test_what_a_does_not_answer_does_not_count(b: list[Class] | str) -> None:
    assert outcome("400: not an image", b).agrees is None


def test_both_answers_of_a_server_have_to_agree() -> None:
    one, other = classes(0.9, 0.1), classes(0.1, 0.9)
    assert Outcome.of("p.jpg", answers(one, one), answers(one, other)).agrees is False
    assert Outcome.of("p.jpg", answers(one, one), answers(one, "503: busy")).agrees is False
    assert Outcome.of("p.jpg", answers(one, "503: busy"), answers(one, one)).agrees is True


def test_another_number_of_classes_is_another_model() -> None:
    with pytest.raises(AnotherModel, match="A answers with 3 classes and B with 2"):
        outcome(classes(0.5, 0.3, 0.2), classes(0.5, 0.5))


def asked(a: list[Class], b: list[Class], count: int = MOST_CLASSES) -> Outcome:
    (found,) = ask_both(lambda *_: a, lambda *_: b, [Picture("p.jpg", b"")], count)
    return found


def test_two_class_lists_without_a_common_class_are_two_kinds_of_model() -> None:
    with pytest.raises(NoCommonClass, match=r"^A and B have no class in common \(A: a, B: c\): they are not the same"):
        asked(classes(0.7, 0.3), classes(0.6, 0.4, shift=2))


def test_with_one_common_class_they_are_compared() -> None:
    assert asked(classes(0.7, 0.3), classes(0.6, 0.4, shift=1)).agrees is False


def test_where_not_all_classes_are_told_none_need_be_common() -> None:
    assert asked(classes(0.7, 0.3), classes(0.6, 0.4, shift=2), count=2).agrees is False


GOOD, OTHER = outcome(classes(0.7, 0.3), classes(0.6, 0.4)), outcome(classes(0.7, 0.3), classes(0.3, 0.7))
BROKEN, UNREAD = outcome(classes(0.7, 0.3), "500: broken"), outcome("400: no image", "400: no image")


def test_the_figures() -> None:
    found = Comparison([GOOD, OTHER, BROKEN, UNREAD])
    assert found.agreement == pytest.approx(1 / 3)
    assert found.errors == (1, 2)
    assert found.mean_movement == pytest.approx(0.25)
    assert found.most_moved is OTHER
    told = found.to_json()
    assert (told["pictures"], told["compared"], told["b"]["errors"]) == (4, 3, 2)
    assert told["outcomes"][0]["a"]["first"] == {"label": "a", "index": 0, "probability": 0.7}


def test_enough_is_what_reaches_the_bound() -> None:
    assert Comparison([GOOD] * 49 + [OTHER]).shortfall(0.98) is None
    assert Comparison([GOOD]).shortfall(1) is None
    assert Comparison([OTHER]).shortfall(0) is None
    assert Comparison([GOOD, OTHER, BROKEN]).shortfall(0.98) == (
        "the agreement is 33.3%, but 98% is required: 1 of 3 pictures have a different first class, "
        "and B did not answer 1 (500: broken)"
    )


def test_a_that_answered_less_than_half_is_no_evidence() -> None:
    assert Comparison([GOOD, UNREAD]).shortfall(0.98) is None
    assert Comparison([GOOD] * 3 + [UNREAD] * 2).shortfall(0) is None
    assert Comparison([GOOD, UNREAD, UNREAD]).shortfall(0) == "A answered only 1 of 3 pictures (400: no image)"


def test_what_a_left_out_is_said() -> None:
    assert Comparison([GOOD] * 5).left_out is None
    assert Comparison([GOOD, UNREAD]).left_out == (
        "A did not answer 1 of 2 pictures: they do not count (400: no image)"
    )


def test_without_a_share_they_have_to_be_equal_but_for_precision() -> None:
    near, far = outcome(classes(0.7, 0.3), classes(0.695, 0.305)), outcome(classes(0.7, 0.3), classes(0.6, 0.4))
    assert Comparison([near]).shortfall(None) is None
    assert Comparison([far]).shortfall(0.98) is None
    assert str(Comparison([far]).shortfall(None)).startswith(
        "probabilities move by 0.1000 on average, but another preci"
    )
    assert "but 98% is required" in str(Comparison([near] * 48 + [OTHER] * 2).shortfall(None))
    assert "and B did not answer 1" in str(Comparison([BROKEN]).shortfall(None))


def test_a_share_that_only_rounds_to_the_bound_is_not_said_to_be_it() -> None:
    assert "the agreement is 97.9%" in str(Comparison([GOOD] * 4899 + [OTHER] * 101).shortfall(0.98))


def test_nothing_answered_is_nothing_compared() -> None:
    with pytest.raises(NothingCompared, match=r"A answered none of 2 pictures.*: 400: no image"):
        Comparison([UNREAD, UNREAD])


def test_latencies() -> None:
    assert Latency.of([float(number) for number in range(1, 101)]) == Latency(50.5, 99)
    assert Latency.of([2.0]) == Latency(2, 2)
    assert Latency.of([]) is None


def test_the_tables_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    many = Comparison([GOOD] * 20 + [OTHER] * 12 + [BROKEN])
    for table in tables(many, "A: one.mar", "B: [other].mar"):
        PlainConsole(width=100).print(table, soft_wrap=False)
    shown = capsys.readouterr().out
    assert "B: [other].mar" in shown
    assert "60.6%, 20 of 33 pictures" in shown
    assert "and 3 more" in shown
    assert "100.0 ms" in shown


def test_where_b_never_answered_there_is_a_table_too(capsys: pytest.CaptureFixture[str]) -> None:
    for table in tables(Comparison([BROKEN]), "A", "B"):
        PlainConsole(width=100).print(table, soft_wrap=False)
    shown = capsys.readouterr().out
    assert "no answer" in shown
    assert "–" in shown


# --- Asking -----------------------------------------------------------------------------------------------------------

PICTURES = [Picture(f"{number}.jpg", b"") for number in range(3)]


def says(name: str, asked: list[str], found: Callable[[], list[Class]] = lambda: classes(1.0)) -> Ask:
    def ask(picture: Picture, count: int) -> list[Class]:
        asked.append(f"{name} {picture.name}")
        return found()

    return ask


def fails() -> list[Class]:
    raise NotClassified("p.jpg", "500: broken")


def test_they_are_asked_by_turns() -> None:
    asked: list[str] = []
    assert len(list(ask_both(says("a", asked), says("b", asked), PICTURES, 5))) == 3
    assert asked[:5] == ["a 0.jpg", "b 0.jpg", "b 0.jpg", "a 0.jpg", "a 1.jpg"]


def test_what_one_does_not_answer_is_noted_and_the_others_are_asked() -> None:
    found = list(ask_both(says("a", []), says("b", [], fails), PICTURES, 5))
    assert [each.b.problems for each in found] == [["p.jpg: 500: broken"] * 2] * 3


@pytest.mark.parametrize("silent", ["A", "B"])
def test_who_has_stopped_answering_is_not_asked_for_ever(silent: str) -> None:
    asked: list[str] = []
    a, b = (says(name, asked, fails if name == silent else lambda: classes(1.0)) for name in "AB")
    with pytest.raises(GaveUp, match=f"{silent} has not answered {SILENT} pictures in a row: p.jpg: 500: broken"):
        list(ask_both(a, b, PICTURES * 1000, 5))
    assert len(asked) == 4 * SILENT


def test_all_classes_are_asked_for_or_as_many_as_the_server_allows() -> None:
    def ask(picture: Picture, count: int) -> list[Class]:
        if count > 50:
            raise NotClassified(picture.name, "400: parameters.top_k: expected an integer from 1 to 50")
        return classes(1.0)

    assert warm_up(ask, PICTURES[0]) == 50
    assert warm_up(says("a", []), PICTURES[0]) == MOST_CLASSES
    assert warm_up(says("a", [], fails), PICTURES[0]) == MOST_CLASSES


def test_a_server_that_limits_calls_is_waited_for_until_that_was_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.comparing.PAUSE", 0)
    monkeypatch.setattr("pipeline.serving.comparing.PATIENCE", 3)
    seconds = iter(range(1000))  # each reading of the clock is a second later
    monkeypatch.setattr("pipeline.serving.comparing.time.monotonic", lambda: next(seconds))
    calls: list[str] = []

    def limited(picture: Picture, classes: int) -> list[Class]:
        calls.append(picture.name)
        if picture.name == "1" or len(calls) == 1:
            raise TooManyCalls(picture.name, "429")
        return [Class(index=0, wnid="", label="a", probability=1.0)]

    def free(picture: Picture, classes: int) -> list[Class]:
        return [Class(index=0, wnid="", label="a", probability=1.0)]

    found = list(ask_both(limited, free, [Picture(name, b"") for name in "012"], 1))
    assert [outcome.agrees for outcome in found] == [True, None, True]
    assert found[0].a.problems == []
    assert found[1].a.problems == ["1: 429"] * 2
    assert calls == [*"000", *"111", "1", *"22"]
