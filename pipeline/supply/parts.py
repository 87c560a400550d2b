"""The parts of `make audit` that check the serving image's contents. Only `asked` needs a network."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from pipeline.shared.whole import written_whole
from pipeline.supply import advisories, components, pins, sbom, statements
from pipeline.supply import jar as jars
from pipeline.supply.components import Component
from pipeline.supply.outcome import Outcome, Undone
from pipeline.supply.release import version

HERE = Path("pipeline", "supply")
LIST = Path("kserve", "runtime", "sbom.cdx.json")
BUILD = Path("build", "sbom.cdx.json")
AT_ONCE = 8  # questions to OSV


def jar(checkout: Path) -> Outcome:
    """TorchServe's jar consists of the libraries in jar.json, byte for byte."""
    known = jars.libraries(checkout / HERE / jars.DATA.name)
    return Outcome.of(f"{len(known)} libraries in TorchServe's jar", list(jars.differences(jars.frontend(), known)))


def holes(checkout: Path) -> Outcome:
    """Each known CVE has a statement, and each statement has a CVE and a test that proves it."""
    listed = _components(checkout)
    said = statements.made(checkout / HERE / statements.DATA.name)
    findings = list(statements.without_tests(said, checkout))
    covered: set[tuple[str, str]] = set()
    pairs = set()
    for advisory in advisories.known(checkout / HERE / advisories.DATA.name):
        for component in listed:
            if advisory.affects(component):
                pairs.add((component, advisory))
                covered.add((advisory.library, advisory.id))
    for component, advisory in sorted(pairs, key=lambda pair: (pair[0].name, pair[1].id, pair[0].where)):
        if not statements.about(component.name, [advisory.id], said):
            findings.append(
                f"{component.name} {component.version} ({component.where}): {advisory.id}, fixed in {advisory.fixed}: "
                f"{advisory.what}; {statements.DATA.name} has no statement about it"
            )
    for library, name in sorted({pair for each in said for pair in each.covers} - covered):
        findings.append(f"{statements.DATA.name}: {library}: {name} affects no version here")
    day = advisories.as_of(checkout / HERE / advisories.DATA.name)
    return Outcome.of(f"{len(listed)} components, with {len(covered)} CVEs known on {day}", findings)


def asked(checkout: Path, database: str = advisories.OSV) -> Outcome:
    """What OSV knows today about the Java libraries: the newer Netty, and those in TorchServe's jar.

    pip-audit asks about Python's; OSV has no names for the rest.
    """
    said = statements.made(checkout / HERE / statements.DATA.name)
    listed = [each for each in _components(checkout) if each.version and each.purl.startswith(sbom.JAVA)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda each: advisories.asked(each, database), listed))
    findings = [
        f"{component.name} {component.version} ({component.where}): {', '.join(sorted(names))}; "
        f"{statements.DATA.name} has no statement about it"
        for component, found in zip(listed, answers, strict=True)
        for names in found
        if not statements.about(component.name, names, said)
    ]
    left_out = "Envoy, Java and the base image were not checked, as OSV has no names for them"
    outcome = Outcome.of(f"{len(listed)} Java libraries, according to OSV today", findings)
    return replace(outcome, said=f"{outcome.said}; {left_out}")


def listed(checkout: Path) -> Outcome:
    """The list in kserve/runtime/ matches the pins, the jar and the statements. It is also written to build/."""
    expected = _text(checkout)
    (checkout / BUILD).parent.mkdir(exist_ok=True)
    with written_whole(checkout / BUILD) as unfinished:
        unfinished.write(expected.encode())
    findings = sbom.differences(checkout / LIST, expected)
    if findings:
        findings.append(f"to update {LIST}, run make sbom")
    return Outcome.of(f"{len(_components(checkout))} components, listed in {BUILD}", findings)


def write(checkout: Path) -> None:
    """`make sbom`."""
    with written_whole(checkout / LIST) as unfinished:
        unfinished.write(_text(checkout).encode())


def held(checkout: Path) -> Outcome:
    """Every download has a version and a digest."""
    findings = list(pins.problems(checkout))
    base = (
        ""
        if (checkout / pins.BASE).exists()
        else "; the base image has only a tag until make image asks its registry for the digest"
    )
    outcome = Outcome.of("the pins of packages, base image and actions", findings)
    return replace(outcome, said=outcome.said + base)


def _text(checkout: Path) -> str:
    known = advisories.known(checkout / HERE / advisories.DATA.name)
    return sbom.text(
        version(checkout), _components(checkout), known, statements.made(checkout / HERE / statements.DATA.name)
    )


def _components(checkout: Path) -> list[Component]:
    return list(_each_component(checkout))


def _each_component(checkout: Path) -> Iterator[Component]:
    try:
        yield from components.of_programs(checkout)
        yield from components.of_python(checkout)
        yield from components.of_netty(checkout / components.NETTY)
        yield from components.of_the_jar(jars.libraries(checkout / HERE / jars.DATA.name), checkout / components.NETTY)
    except OSError as error:
        raise Undone(f"{error.filename}: {error.strerror}") from None


if __name__ == "__main__":
    from pipeline.shared.checkout import CHECKOUT

    write(CHECKOUT)
