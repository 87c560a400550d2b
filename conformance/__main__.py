"""`python -m conformance URL`: checks a server, prints a table; exits with 0, 1 for faults, or 2 if it cannot ask."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from conformance import binary, grpc_calls, grpc_v2, rest, v1, v2
from conformance.checking import Failed, NoServer, Outcome, run
from conformance.http import Http
from conformance.questions import BadInput, Given
from conformance.readiness import became_ready
from conformance.table import Part, as_json, printable, show

PROTOCOLS = ("v1", "v2", "grpc")
IN_A_URL = re.compile(r"/v[12]/models/(?P<name>[^/:]+).*$")
PROBE_S = 10  # for finding out whether a protocol is spoken at all
AGAIN_S = 0.5  # between two requests to a model that answers none yet
Case = v1.V1Case | v2.V2Case | grpc_calls.GrpcCase
NO_MODEL = "the server lists no model: give --model NAME"


class CannotAsk(Exception):
    """The server cannot be asked, or there is nothing to ask."""


@dataclass(frozen=True)
class Asked:
    """The command line's values."""

    server: httpx.URL
    model: str | None
    protocol: str | None
    given: list[Given]
    headers: dict[str, str]
    timeout_s: float
    too_large: int
    loading_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    try:
        parts = ask(_asked(options))
    except (CannotAsk, NoServer, BadInput) as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(as_json(parts), indent=1))
    else:
        show(parts, Console())
    outcomes = {result.outcome for part in parts for result in part.results}
    return int(Outcome.FAILED in outcomes or (options.strict and Outcome.ADVISED in outcomes))


def ask(asked: Asked) -> list[Part]:
    """Checks each protocol that the server speaks, or the chosen one. Raises CannotAsk, NoServer or BadInput."""
    parts = []
    for protocol in PROTOCOLS if asked.protocol is None else [asked.protocol]:
        part = _over_grpc(asked) if protocol == "grpc" else _over_http(asked, protocol)
        if part is not None:
            parts.append(part)
    if not parts:
        raise CannotAsk(f"{asked.server} does not speak any of {', '.join(PROTOCOLS)}")
    return parts


def _over_http(asked: Asked, protocol: str) -> Part | None:
    """→ None if the server does not speak the protocol, and it was not chosen by name."""
    with Http(str(asked.server), asked.headers, asked.timeout_s) as http:
        if asked.loading_s:
            _await(asked, lambda model: _case(http, protocol, model, asked).is_ready())
        elif asked.protocol is None and not _speaks(http, protocol):
            return None
        case = _case(http, protocol, asked.model or _listed_model(http), asked)
        _look(case, asked)
        if isinstance(case, v1.V1Case):
            results = [*run(v1.CHECKS, case), *run(rest.CHECKS, case)]
        else:
            results = [*run(v2.CHECKS, case), *run(rest.CHECKS, case), *run(binary.CHECKS, case)]
        return Part(protocol, f"{case.model} at {asked.server}; {_asked_with(case)}", results)


def _asked_with(case: Case) -> str:
    """In words, for the title."""
    if case.questions:
        first = case.questions[0]
        shown = ", ".join(map(str, first)) if isinstance(first, tuple) else json.dumps(first)
        return f"asked {shown if len(shown) <= 100 else f'{shown[:100]}…'}"
    last = f"; the answer to the last was {case.tried[-1]}" if case.tried else ""
    return f"it accepted none of the {len(case.tried)} requests that were tried{last}"


def _case(http: Http, protocol: str, model: str, asked: Asked) -> v1.V1Case | v2.V2Case:
    return (v1.V1Case if protocol == "v1" else v2.V2Case)(http, model, asked.too_large)


def _await(asked: Asked, says_so: Callable[[str], bool]) -> None:
    """Waits until the model says that it is ready. Raises CannotAsk if it does not in time."""
    model = asked.model
    if model is None:
        raise CannotAsk("--loading needs --model: a server that is still starting lists none")

    def is_ready() -> bool:
        try:
            return says_so(model)
        except (NoServer, Failed):
            return False

    if not became_ready(is_ready, asked.loading_s):
        raise CannotAsk(f"{asked.server}: {model} was not ready within {asked.loading_s:g} s")


def _look(case: Case, asked: Asked) -> None:
    """Looks for requests that the model answers, immediately if it has just said that it is ready."""
    case.was_awaited = bool(asked.loading_s)
    case.look(asked.given)
    if not case.was_awaited or case.questions:
        return
    first = case.tried[-1] if case.tried else "no metadata to make requests from"

    def answers() -> bool:
        case.look(asked.given)
        return bool(case.questions)

    if became_ready(answers, asked.loading_s, AGAIN_S):
        case.too_early = first
        case.look(asked.given)  # again from the start: some were tried too early


def _speaks(http: Http, protocol: str) -> bool:
    try:
        return http.get("/v1/models" if protocol == "v1" else "/v2/health/live").status == 200
    except Failed:
        return False


def _listed_model(http: Http) -> str:
    """The first model in KServe's lists, or in the repository index of Triton and MLServer."""
    for path in ("/v1/models", "/v2/models"):
        with suppress(Failed, LookupError, TypeError, ValueError):
            return str(json.loads(http.get(path).body)["models"][0])
    with suppress(Failed, LookupError, TypeError, ValueError):
        return str(json.loads(http.post("/v2/repository/index", b"{}").body)[0]["name"])
    raise CannotAsk(NO_MODEL)


def _over_grpc(asked: Asked) -> Part | None:
    url = asked.server
    is_tls = url.scheme in ("https", "grpcs")
    target = f"{url.host}:{url.port or (443 if is_tls else 80)}"
    model = asked.model
    if model is None:
        if asked.protocol == "grpc" and url.scheme.startswith("grpc"):
            raise CannotAsk(NO_MODEL)
        with Http(str(url.copy_with(scheme="https" if is_tls else "http")), asked.headers, asked.timeout_s) as http:
            try:
                model = _listed_model(http)
            except (CannotAsk, NoServer):
                if asked.protocol is None:
                    return None
                raise CannotAsk(NO_MODEL) from None
    case = grpc_calls.GrpcCase(target, is_tls, model, asked.timeout_s, asked.headers, asked.too_large)
    try:
        if asked.loading_s:
            _await(asked, lambda _: case.is_ready())
        live = case.call("ServerLive")
        if not live.is_ok and asked.protocol is None:
            return None
        _look(case, asked)
        return Part("grpc", f"{model} at {target}; {_asked_with(case)}", list(run(grpc_v2.CHECKS, case)))
    finally:
        case.close()


def _asked(options: argparse.Namespace) -> Asked:
    """Raises CannotAsk or BadInput."""
    text = options.url if "://" in options.url else f"http://{options.url}"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise CannotAsk(f"{options.url}: not a URL ({error})") from None
    if url.scheme not in ("http", "https", "grpc", "grpcs") or not url.host or not 0 < (url.port or 1) < 65536:
        raise CannotAsk(f"{options.url}: not the URL of a server")
    found = IN_A_URL.search(url.path)
    headers = {}
    for header in options.header:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise CannotAsk(f"--header {header}: expected 'NAME: VALUE'")
        headers[name.strip()] = value.strip()
    return Asked(
        url.copy_with(path=url.path[: found.start()] if found else url.path, query=None, fragment=None),
        options.model or (found["name"] if found else None),
        "grpc" if options.protocol is None and url.scheme.startswith("grpc") else options.protocol,
        [Given.read(path) for path in options.input],
        headers,
        options.timeout,
        options.too_large << 20,
        options.loading,
    )


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description="Checks whether a server follows KServe's protocol.",
        epilog="Exit status: 0 if no requirement is broken, 1 if one is, 2 if the server could not be asked.",
    )
    parser.add_argument("url", metavar="URL", help="the server, or any URL of its model; grpc://HOST:PORT for gRPC")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="only this one (default: each that the server speaks)")
    parser.add_argument("--model", metavar="NAME", help="default: the first that the server lists")
    parser.add_argument(
        "--input",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="an input that the model accepts: the JSON body of a call, or an image; give two with different answers "
        "for the checks of order (default: made from the metadata, or two small pictures)",
    )
    parser.add_argument("--header", metavar="'NAME: VALUE'", action="append", default=[], help="sent with each call")
    parser.add_argument("--timeout", metavar="SECONDS", type=float, default=30, help="for each answer (default: 30)")
    parser.add_argument(
        "--too-large", metavar="MIB", type=int, default=64, help="a size that the server should refuse (default: 64)"
    )
    parser.add_argument(
        "--loading",
        metavar="SECONDS",
        type=float,
        default=0,
        help="wait this long for a server that is still starting, and check what it says meanwhile",
    )
    parser.add_argument("--strict", action="store_true", help="recommendations (should) count as well")
    parser.add_argument("--json", action="store_true", help="print the results as a JSON list")
    return parser


if __name__ == "__main__":
    sys.exit(main())
