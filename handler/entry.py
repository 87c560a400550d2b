"""TorchServe's entry point. Reads top-down as requests flow:

request bodies → instances → image bytes → RGB pixels (224, 224, 3) → batch → probabilities → top-k → response bodies
"""

from __future__ import annotations

from pathlib import Path

from vision.worker.integrity import check_files

# Before the archive's other modules are imported: a damaged one is then told by its name, not by a SyntaxError. Every
# archive that TorchServe loads has MAR-INF; a checkout has none, and no list of its files.
if (archive := Path(__file__).resolve().parent).joinpath("MAR-INF").is_dir():
    check_files(archive)

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Callable

import torch

from vision.errors import Defect, MalformedBody, RequestError, TooLarge
from vision.fetch.image_url import PendingImage, UrlFetcher
from vision.image import decoder as image_decoder
from vision.image import source as image_source
from vision.model.classifier import Classifier, top_k
from vision.protocol import v1 as kserve_v1
from vision.worker.processors import Processors, available
from vision.worker.settings import check_settings

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)


class Handler:
    """Answers KServe v1 predict requests, a batch of them at a time, and keeps their answers apart."""

    def initialize(self, context: Any) -> None:
        """Called once in each worker, before it is ready. Raises ValueError for settings that make no sense."""
        model_dir = Path(context.system_properties["model_dir"])
        settings = check_settings(context.model_yaml_config)
        self._limits = settings["limits"]
        self._fetcher = UrlFetcher(**settings["url"], max_bytes=self._limits["max_image_bytes"])
        weights_file = model_dir / "alexnet.safetensors"
        self._processors = Processors(weights_file, settings["threads"])
        self._pool = ThreadPoolExecutor(available(), "decode")
        torch.set_num_threads(settings["threads"])
        self._classifier = Classifier(
            weights_file,
            settings,
            gpu_id=context.system_properties.get("gpu_id"),
            warm_size=context.system_properties["batch_size"],
        )
        self._classes = json.loads((model_dir / "imagenet_classes.json").read_text(encoding="utf-8"))
        logger.info("alexnet: %s", self._classifier.description)
        _quieten_torchserve()

    def handle(self, rows: Any, context: Any) -> list[Any]:
        """Answers a batch: each request is answered whole, or refused whole with a status of its own.

        rows: a list with a dict for each request; under TorchServe's stock KServe envelope, the instances of the one
        request, whatever JSON they are.
        """
        enveloped = _is_enveloped(rows, context)
        if enveloped:
            requests = [_attempt(kserve_v1.instances_of_envelope, rows, self._limits)]
        else:
            requests = [_attempt(self._parse, row, context, index) for index, row in enumerate(rows)]
        sources = [_attempt(self._locate, request) for request in requests]  # starts every fetch before waiting for one
        images = [_attempt(self._wait, located) for located in sources]
        self._fetcher.cancel()  # what the refused requests still have under way
        with self._processors.lend(lone=len(requests) == 1) as threads:
            torch.set_num_threads(threads)
            pixels = [_attempt(self._decode, located, threads) for located in images]
            answers = self._predict(requests, pixels)
        bodies = kserve_v1.FinalBodies(_respond(answer, context, index) for index, answer in enumerate(answers))
        if enveloped and isinstance(answers[0], list):
            return answers[0]  # the envelope puts {"predictions": …} around them
        return bodies

    def _parse(self, row: dict[str, Any], context: Any, index: int) -> kserve_v1.Request:
        if context.get_request_header(index, "explain") == "True":
            raise MalformedBody("this model explains nothing; send it to :predict")
        part = context.get_request_header(index, "body")  # TorchServe's note about the body, unless a header hides it
        content_type = part.get("content-type") or "" if isinstance(part, dict) else ""
        return kserve_v1.parse_row(row, content_type, self._limits)

    def _locate(self, request: kserve_v1.Request) -> list[Any]:
        fetches = self._fetcher.for_request()
        return [
            image_source.locate_image(instance, place, self._limits, fetches)
            for instance, place in zip(request.instances, request.places)
        ]

    def _wait(self, located: list[Any]) -> list[Any]:
        return [(source.result() if isinstance(source, PendingImage) else source, place) for source, place in located]

    def _decode(self, located: list[Any], threads: int) -> list[Any]:
        opened = [image_decoder.open_image(image, place, self._limits["max_pixels"]) for image, place in located]
        pixels = sum(image.pixels for image in opened)
        if pixels > self._limits["max_request_pixels"]:
            raise TooLarge("instances", self._limits["max_request_pixels"], "pixels")
        # Together they take no more memory than one image of the largest size.
        together = threads > 1 < len(opened) and pixels <= self._limits["max_pixels"]
        return list((self._pool.map if together else map)(image_decoder.decode, opened))

    def _predict(self, requests: list[Any], pixels: list[Any]) -> list[Any]:
        """For each request its predictions, or the error that it had already; all images form one batch."""
        batch = [image for images in pixels if isinstance(images, list) for image in images]
        probabilities = _attempt(self._classifier.probabilities, batch) if batch else []
        rows = iter(probabilities) if not isinstance(probabilities, RequestError) else None
        answers: list[Any] = []
        for request, images in zip(requests, pixels):
            if isinstance(images, RequestError):
                answers.append(images)
            elif rows is None:
                answers.append(probabilities)
            else:
                answers.append([top_k(next(rows), request.top_k, self._classes) for _ in images])
        return answers


def _attempt(step: Callable[..., Any], value: Any, *others: Any) -> Any:
    """The step's result, or the RequestError that it raised; an earlier RequestError passes through."""
    if isinstance(value, RequestError):
        return value
    try:
        return step(value, *others)
    except RequestError as error:
        return error
    except Exception:
        logger.exception("alexnet: defect in %s", step.__name__)
        return Defect()


def _is_enveloped(rows: Any, context: Any) -> bool:
    """TorchServe's own rows are a body, or the bytes of a form; JSON instances have no bytes, and none has a body.

    The envelope knows no batches: several rows for as many requests are those requests, whatever one of them holds.
    """
    if not isinstance(rows, list) or len(rows) != len(context.request_processor):
        return True
    if len(rows) > 1:
        return False
    return not all(isinstance(row, dict) and (not row or "body" in row or _has_bytes(row)) for row in rows)


def _has_bytes(row: dict[str, Any]) -> bool:
    return any(isinstance(value, (bytes, bytearray)) for value in row.values())


def _respond(answer: Any, context: Any, index: int) -> bytes:
    context.set_response_content_type(index, kserve_v1.JSON)
    if isinstance(answer, RequestError):
        context.set_response_status(answer.status, HTTPStatus(answer.status).phrase, index)
        return kserve_v1.error_body(answer)
    context.set_response_status(200, HTTPStatus.OK.phrase, index)
    return kserve_v1.response_body(answer)


def _quieten_torchserve() -> None:
    """TorchServe logs a line for every batch through the root logger; its metrics, which are lines too, must stay."""
    logging.getLogger("ts").setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.WARNING)
