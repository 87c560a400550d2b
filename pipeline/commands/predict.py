"""scripts/predict.sh: classifies images on a server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving import credentials
from pipeline.serving.bars import show
from pipeline.serving.client import Client
from pipeline.serving.overlays import Overlays
from pipeline.serving.pictures import MOST_BYTES, bounded, fetch, read_file, scheme_of
from pipeline.serving.protocol import Explained, Protocol
from pipeline.shared.errors import NotClassified
from pipeline.shared.signals import leave, on_stopping
from pipeline.shared.terminal import complain, err, out, warn

VARIABLE = "ALEXNET_TOKEN"


def predict(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Image files, https:// URLs, or objects gs://BUCKET/NAME.")
    ],
    url: Annotated[
        str,
        typer.Option(metavar="URL", help="The server, or any URL of its model; HOST:PORT means http."),
    ] = "http://127.0.0.1:8080",
    top_k: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="How many classes to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each image.")] = False,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            help="How to send an image: as it is (raw: the fastest, and the default), in KServe's v1 or v2, or in v2 "
            "over gRPC (grpc)."
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a JPEG of each image into this folder, with colours over the part that led to the first class.",
        ),
    ] = None,
    by_url: Annotated[
        bool, typer.Option("--by-url", help="Let the server fetch https:// images, if it allows that. Only in v1.")
    ] = False,
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'NAME: VALUE'|@FILE",
            help="A header, such as 'Host: NAME' for a gateway; may be repeated. @FILE holds one per line. "
            "Put secrets there: ps shows command lines.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with a bearer token; /dev/stdin works.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            help=f"A bearer token, which ps shows. To keep it secret, use the variable {VARIABLE} or --token-file.",
        ),
    ] = None,
    gcloud_token: Annotated[
        bool, typer.Option("--gcloud-token", help="Use the token of gcloud auth print-identity-token.")
    ] = False,
    audience: Annotated[
        str | None,
        typer.Option(metavar="AUDIENCE", help="The audience of --gcloud-token, if gcloud uses a service account."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Certificates (PEM): trust servers that have one of them, or one issued by them."
        ),
    ] = None,
) -> None:
    """Classify images: one call for each."""
    on_stopping(leave)
    headers = _headers(header or [], token, token_file, gcloud_token, audience)
    if by_url and protocol not in (None, Protocol.V1):
        raise typer.BadParameter(f"--by-url goes with --protocol v1, not {protocol.value}")
    asked = Protocol.V1 if by_url else protocol or Protocol.RAW
    if explain and asked not in (Protocol.RAW, Protocol.V1):
        raise typer.BadParameter(f"--explain goes with --protocol raw or v1, not {asked.value}")
    overlays = Overlays(explain) if explain else None
    failed = False
    with Client(url, MODEL_NAME, headers, ca, _picture(by_url), asked) as client:
        client.find_model()
        if client.warning:
            warn(client.warning)
        quiet = out.is_terminal or not err.is_terminal  # in a terminal the answers themselves show the progress
        answers = client.explain_all(images, top_k) if overlays else client.predict_all(images, top_k)
        watched = track(answers, "classifying", len(images), console=err, transient=True, disable=quiet)
        for number, (image, answer) in enumerate(zip(images, watched, strict=True), start=1):
            if isinstance(answer, NotClassified):
                failed = True
                complain(answer)
                continue
            classes = answer.classes if isinstance(answer, Explained) else answer
            kept = overlays.keep(image, answer.overlay) if overlays and isinstance(answer, Explained) else None
            if as_json:
                explained = {"explanation": str(kept)} if kept else {}
                out.print(json.dumps({"image": image, "classes": classes, **explained}))
                continue
            show(f"{image} ({number} of {len(images)})" if len(images) > 1 else image, classes, out)
            if kept:
                out.print(f"explained in {kept}")
    if failed:
        raise typer.Exit(1)


def _headers(
    said: list[str], token: str | None, token_file: Path | None, gcloud_token: bool, audience: str | None
) -> dict[str, str]:
    """The headers that the user gave, and the token. Raises BadParameter, BadHeader or CredentialsMissing."""
    if [token is not None, token_file is not None, gcloud_token].count(True) > 1:
        raise typer.BadParameter("give one of --token, --token-file and --gcloud-token")
    if audience is not None and not gcloud_token:
        raise typer.BadParameter("--audience goes with --gcloud-token")
    headers = credentials.headers(said)
    bearer = None
    if token is not None:
        bearer = credentials.token_of(token, "--token")
    elif token_file is not None:
        bearer = credentials.token_in(token_file)
    elif gcloud_token:
        bearer = credentials.identity_token(audience)
    if bearer is not None and "authorization" in headers:
        raise typer.BadParameter("a header Authorization and a token were given: give one")
    if bearer is None and "authorization" not in headers and os.environ.get(VARIABLE):
        bearer = credentials.token_of(os.environ[VARIABLE], VARIABLE)
    return headers if bearer is None else headers | {"authorization": f"Bearer {bearer}"}


def _picture(by_url: bool) -> Callable[[str], bytes | str]:
    """How an image is read. by_url: the server fetches https:// images."""

    @cache
    def storage() -> Any:
        from pipeline.store.bucket import connect

        return connect()

    def picture(image: str) -> bytes | str:
        scheme = scheme_of(image)
        if scheme is None:
            return read_file(image)
        if scheme == "https":
            return image if by_url else fetch(image)
        if scheme == "gs":
            from pipeline.store.pictures import read_object  # Google's libraries take 0.2 s

            return bounded(image, read_object(storage(), image, MOST_BYTES))
        raise NotClassified(image, f"{scheme}:// is not supported: images are files, https:// or gs://")

    return picture
