"""Tries the faults on a server and writes what came of them to reliability/results/SERVER.json.

    PYTHONPATH=. python -P -m reliability [--server ours|stock] [CASE…]

Exits with 1 where a case of this project's server did not end as it should.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

from reliability.cases import CASES
from reliability.cgroups import Impossible
from reliability.servers import OURS, STOCK, Servers

RESULTS = Path(__file__).with_name("results")
CASE_TIMEOUT_S = 150


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--server", choices=(OURS, STOCK), default=OURS)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    chosen = parser.parse_args()
    if unknown := set(chosen.cases) - CASES.keys():
        parser.error(f"no case {sorted(unknown)[0]}: there are {', '.join(CASES)}")
    signal.signal(signal.SIGTERM, stop)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a thousand connections, and their ends in the server
    file = RESULTS / f"{chosen.server}.json"
    RESULTS.mkdir(exist_ok=True)
    results = json.loads(file.read_text()) if file.is_file() else {}
    failed = False
    with tempfile.TemporaryDirectory() as directory:
        servers = Servers(chosen.server, Path(directory), lambda line: print(line, file=sys.stderr))
        for name in chosen.cases or CASES:
            results[name] = tried(name, servers)
            failed |= bool(results[name].get("failed"))
            print(f"{name}: {line_of(results[name])}", flush=True)
            file.write_text(json.dumps(results, indent=1) + "\n")
    return int(failed and chosen.server == OURS)


def stop(*_: object) -> None:
    """So that nothing keeps running; told so twice, it still cleans up (timeout(1) tells a process and its group)."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


def tried(name: str, servers: Servers) -> dict[str, object]:
    began = time.monotonic()
    about: dict[str, object] = {"date": time.strftime("%Y-%m-%d"), "processors": os.cpu_count()}
    try:
        about |= asyncio.run(asyncio.wait_for(CASES[name](servers), CASE_TIMEOUT_S))
    except Impossible as reason:
        about["skipped"] = str(reason)
    except TimeoutError:
        about["failed"] = [f"the case did not end within {CASE_TIMEOUT_S} s"]
    except Exception as error:
        about["failed"] = [f"{type(error).__name__}: {error}"[:300]]
    return about | {"took_s": time.monotonic() - began}


def line_of(result: dict[str, object]) -> str:
    if "skipped" in result:
        return f"skipped, {result['skipped']}"
    hidden = ("bodies", "date", "processors")
    return ("FAILED " if result["failed"] else "fine ") + ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in result.items()
        if key not in hidden and value not in (None, [])
    )


if __name__ == "__main__":
    sys.exit(main())
