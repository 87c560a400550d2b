"""A page's commands, run in one shell with a stand-in for each program that they call."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

# Records its arguments, one line per call. {answers}: its output for the page, as shell cases.
STAND_IN = r"""#!/bin/sh
printf '%s\n' "$(echo "${{0##*/}} $*" | tr '\n' ' ')" >>"$RECORD"
case "${{0##*/}} $*" in
{answers}
"kubectl port-forward"*) exec tail -f /dev/null ;;
esac
"""


def section(page: Path, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def commands(page: Path, title: str) -> str:
    """Indented commands; fenced blocks are files or alternatives."""
    text = re.sub(r"^```.*?^```$", "", section(page, title), flags=re.MULTILINE | re.DOTALL)
    return "".join(line[4:] + "\n" for line in text.splitlines() if line.startswith("    "))


def walked(folder: Path, script: str, programs: set[str], answers: str) -> list[str]:
    """The arguments of all programs, including scripts/. An unset variable or a failing command ends the run."""
    for name in ("bin", "scripts"):
        (folder / name).mkdir()
    for program in [f"bin/{name}" for name in programs] + [
        f"scripts/{path.name}" for path in (CHECKOUT / "scripts").glob("*.sh")
    ]:
        (folder / program).write_text(STAND_IN.format(answers=answers))
        (folder / program).chmod(0o755)
    tools = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    with (folder / "said").open("w") as said_here:
        process = subprocess.Popen(
            ["bash", "-c", f"set -eu\n{script}"],
            cwd=folder,
            env={"PATH": tools, "RECORD": str(folder / "record")},
            stdin=subprocess.DEVNULL,
            stdout=said_here,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):  # the port-forward, if the page did not stop it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
    assert status == 0, (folder / "said").read_text()
    return [line.strip() for line in (folder / "record").read_text().splitlines()]


def refused_by_gcloud(record: list[str], folder: Path) -> dict[str, str]:
    """Of the lines that call gcloud, those that it would not take, and why: it parses them, and asks nobody.

    It takes what follows a flag for its value, so a flag without one stands at the end of its line.
    """
    lines = sorted({line for line in record if line.startswith("gcloud ")})
    (folder / "lines.json").write_text(json.dumps([{"command_string": line} for line in lines]))
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={folder / 'lines.json'}"],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"CLOUDSDK_CONFIG": str(folder / "config"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
        check=False,
    )
    answers = json.loads(done.stdout)
    assert len(answers) == len(lines)
    return {answer["command_string"]: answer["error_message"] for answer in answers if not answer["success"]}
