"""`python -m reliability` tries faults, bad input, attacks and a long run, and writes results/ and tables."""

from __future__ import annotations

import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.text import Text

from pipeline.shared.errors import PipelineError
from pipeline.shared.signals import on_stopping, terminate
from pipeline.shared.terminal import err, out
from reliability import attack_surface, bad_input, candidates, faults, page, results, soak
from reliability.faults.outcome import Outcome
from reliability.servers import OURS, Kind, Servers

EACH_FAULT = [f"faults:{name}" for name in faults.FAULTS]
PARTS = {
    "faults": EACH_FAULT,
    **{part: [part] for part in ("bad-input", "attack-surface", "soak", "candidates", "page")},
}
OURS_ALONE = ("candidates",)  # without a server
# Not in the line about a result.
HIDDEN = ("failed", "skipped", "date", "processors", "bodies", "sizes", "damaged", "equal")

Result = Outcome | bad_input.Answers | attack_surface.Surface | soak.Soak | candidates.Candidates

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help=f"{', '.join(PARTS)}, or one fault: {', '.join(EACH_FAULT)}."),
    ] = None,
    server: Annotated[Kind, typer.Option(help="This project's server, or stock TorchServe.")] = OURS,
    requests: Annotated[int, typer.Option(min=soak.PARTS + 1, help="How many the soak test sends.")] = soak.REQUESTS,
) -> None:
    """Try what may go wrong on a server, and write docs/reliability.md's tables.

    Exits with 1 if this project's server failed a check.
    """
    parts = chosen(only or list(PARTS))
    tries = [part for part in parts if part != "page" and (server == OURS or part not in OURS_ALONE)]
    failed = False
    with tempfile.TemporaryDirectory() as directory, err.status("preparing") as status:
        is_served = any(part not in OURS_ALONE for part in tries)
        servers = Servers(server, Path(directory) / "models", lambda line: err.print(line)) if is_served else None
        for number, part in enumerate(tries, 1):
            title = f"{number} of {len(tries)}: {part}"

            def say(what: str, title: str = title) -> None:
                status.update(Text(f"{title}: {what}"))
                if not err.is_terminal:
                    err.print(what)

            status.update(title)
            result = tried(part, servers, requests, Path(directory) / "changed", say)
            failed |= bool(result.failed)
            out.print(f"{part}: {line_of(result)}")
    if "page" in parts:
        page.write(err.print)
    if failed and server == OURS:
        raise typer.Exit(1)


def chosen(only: list[str]) -> list[str]:
    """Each fault is a part. Raises PipelineError for an unknown part."""
    known = PARTS | {fault: [fault] for fault in EACH_FAULT}
    if unknown := [name for name in only if name not in known]:
        raise PipelineError(f"no part is called {unknown[0]}: choose from {', '.join(known)}")
    return [part for name in only for part in known[name]]


def tried(part: str, servers: Servers | None, requests: int, folder: Path, say: Callable[[str], None]) -> Result:
    """Tries a part, and stores its result."""
    name, _, fault = part.partition(":")
    result: Result
    if name == "candidates":
        result = candidates.tried(say)
        results.write(name, OURS, asdict(result))
        return result
    assert servers
    if name == "faults":
        result = faults.tried(fault, servers)
        results.write(name, servers.kind, (results.read(name, servers.kind) or {}) | {fault: asdict(result)})
        return result
    if name == "bad-input":
        result = bad_input.tried(servers, say)
    elif name == "attack-surface":
        result = attack_surface.tried(servers, folder, say)
    else:
        result = soak.tried(servers, requests, say)
    results.write(name, servers.kind, asdict(result))
    return result


def line_of(result: Result) -> str:
    if isinstance(result, Outcome) and result.skipped:
        return f"skipped, {result.skipped}"
    verdict = f"FAILED: {'; '.join(result.failed)}" if result.failed else "fine"
    return ", ".join([verdict, *said(asdict(result))])


def said(figures: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict) and name in ("seen", "own"):
            lines += said(value)
        elif name not in HIDDEN and value not in (None, [], {}):
            lines.append(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}")
    return lines


def stop(number: int, frame: FrameType | None) -> None:
    """Leaves nothing running. A second signal changes nothing (timeout(1) signals a process and its group)."""
    signal.signal(number, signal.SIG_IGN)
    terminate(number, frame)


if __name__ == "__main__":
    on_stopping(stop)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a thousand connections, and their ends in the server
    try:
        app(prog_name="python -m reliability")
    except PipelineError as error:
        err.print(f"error: {error}", style="red")
        sys.exit(1)
