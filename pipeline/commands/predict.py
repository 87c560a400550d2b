"""scripts/predict.sh: images, and what a server takes them for."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.progress import track

from pipeline.artefact.model import MODEL_NAME
from pipeline.serving.client import Client, show
from pipeline.shared.errors import NotClassified
from pipeline.shared.signals import leave, on_stopping
from pipeline.shared.terminal import complain, err, out


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Image files, or https URLs.")],
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8080",
    top_k: Annotated[int, typer.Option(min=1, max=1000, help="How many classes to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each image.")] = False,
) -> None:
    """Classify images: one KServe v1 call for each."""
    on_stopping(leave)
    failed = False
    with Client(url, MODEL_NAME) as client:
        quiet = out.is_terminal or not err.is_terminal  # in a terminal the answers themselves show how far it is
        answers = client.predict_all(images, top_k)
        watched = track(answers, "classifying", len(images), console=err, transient=True, disable=quiet)
        for number, (image, answer) in enumerate(zip(images, watched, strict=True), start=1):
            if isinstance(answer, NotClassified):
                failed = True
                complain(answer)
            elif as_json:
                out.print(json.dumps({"image": image, "classes": answer}))
            else:
                show(f"{image} ({number} of {len(images)})" if len(images) > 1 else image, answer, out)
    if failed:
        raise typer.Exit(1)
