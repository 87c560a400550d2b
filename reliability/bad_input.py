"""The bad requests of tests/serving/test_bad_input.py, sent to either server with good ones beside them.

    PYTHONPATH=. python -P -m reliability.bad_input [--server ours|stock]

Every image comes in JSON here, as both servers take it. Writes reliability/results/bad-input-SERVER.json. Exits with 1
where this project's server did not answer as it should.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from reliability import bombs
from reliability.__main__ import RESULTS
from reliability.clients import ANSWERED, BROKEN, HANGING, PATIENCE_S, Connection, Load, connected, http_request
from reliability.servers import OURS, STOCK, Server, Servers
from tests.serving.test_bad_input import BOMBS, IMAGES, JSON_BODIES

BESIDE = 8  # good clients, who ask all the time
REFUSALS = ("400", "403", "413")
SLOWEST_S = 2  # that an answer may take
PLACE = re.compile(rb'\{"error": "(body|instances|parameters)')


def main() -> int:
    parser = argparse.ArgumentParser(prog="reliability.bad_input")
    parser.add_argument("--server", choices=(OURS, STOCK), default=OURS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        servers = Servers(chosen.server, Path(directory))
        with servers.started() as server:
            result = asyncio.run(tried(server, servers.form))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"bad-input-{chosen.server}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    failed = faults(result)
    print(*failed, sep="\n", file=sys.stderr)
    return int(chosen.server == OURS and bool(failed))


def faults(result: dict[str, Any]) -> list[str]:
    """What should not have been."""
    unanswered = result["cases"] - sum(result["statuses"].get(status, 0) for status in (ANSWERED, *REFUSALS))
    faults = {
        f"{unanswered} requests were neither answered nor refused": unanswered,
        f"{result['refusals_without_a_place']} refusals name no place": result["refusals_without_a_place"],
        f"{result['slowest']} took {result['slowest_s']:.1f} s": result["slowest_s"] > SLOWEST_S,
        f"{result['beside_lost']} good requests beside them were lost": result["beside_lost"],
        f"{result['workers_replaced']} workers were replaced": result["workers_replaced"],
    }
    return [fault for fault, is_there in faults.items() if is_there]


def bodies(form: str) -> dict[str, bytes]:
    """Name → request body. Images of the size limit are left out: in JSON they are above that of the body."""
    images = {name: image for name, (image, _) in IMAGES.items() if len(image) < 10_000_000}
    images |= {name: bombs.BOMBS[name]() for name in BOMBS}
    wrapped = {name: {"instances": [{form: base64.b64encode(image).decode()}]} for name, image in images.items()}
    return {name: body for name, (body, _, _) in JSON_BODIES.items()} | {
        name: json.dumps(body).encode() for name, body in wrapped.items()
    }


async def tried(server: Server, form: str) -> dict[str, Any]:
    workers = {process.pid for process in server.workers()}
    statuses: Counter[str] = Counter()
    slowest, silent = (0.0, ""), 0
    async with Load(server.address, form, BESIDE) as load:
        for name, body in bodies(form).items():
            began = time.monotonic()
            outcome, answer = await asked(server, http_request(body))
            statuses[outcome] += 1
            slowest = max(slowest, (time.monotonic() - began, name))
            silent += outcome in REFUSALS and not PLACE.match(answer)
            print(f"{outcome} {time.monotonic() - began:.2f} s {name}: {answer[:100]!r}", file=sys.stderr)
        await load.leave()
    beside = load.outcomes()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cases": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "refusals_without_a_place": silent,
        "slowest_s": slowest[0],
        "slowest": slowest[1],
        "beside": beside.total(),
        "beside_lost": beside.total() - beside[ANSWERED],
        "workers_replaced": len(workers - {process.pid for process in server.workers()}),
    }


async def asked(server: Server, request: bytes) -> tuple[str, bytes]:
    connection: Connection | None = None
    try:
        connection = await connected(server.address)
        async with asyncio.timeout(PATIENCE_S):
            status, _, body = await connection.ask(request)
            return status, body
    except TimeoutError:
        return HANGING, b""
    except (OSError, EOFError, ValueError):
        return BROKEN, b""
    finally:
        if connection:
            connection.close()


if __name__ == "__main__":
    sys.exit(main())
