"""TorchServe's entry point. Reads top-down as requests flow:

request bodies → instances → image bytes → RGB pixels (crop, crop, 3) → batch → probabilities → top-k → response bodies
                                                     └───────────────→ maps of one class ─────────────┘  of :explain
"""

from __future__ import annotations

from pathlib import Path

from vision.worker.integrity import check_files

# Checked before the archive's other modules are imported, so that a damaged one is reported by name rather than as a
# SyntaxError. Every archive that TorchServe loads has MAR-INF; a checkout has neither MAR-INF nor a list of its files.
if (archive := Path(__file__).resolve().parent).joinpath("MAR-INF").is_dir():
    check_files(archive)

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any, Callable, TypeVar, Union

import numpy as np
import torch

from vision.errors import Busy, Defect, MalformedBody, RequestError, TooLarge
from vision.explained import explain
from vision.fetch.image_url import UrlFetcher
from vision.image import decoder as image_decoder
from vision.image.source import EncodedImage, LocatedImage, locate_image
from vision.model import devices
from vision.model.classifier import Classifier
from vision.model.explanation import Explainer
from vision.model.facts import read_facts
from vision.model.ranking import read_classes, top_k
from vision.model.weights import WEIGHTS
from vision.protocol import protocols, v1
from vision.protocol.answer import Answer, Response
from vision.protocol.request import Request, Verb, Wish
from vision.worker import torchserve
from vision.worker.abandoned import Abandoned
from vision.worker.pace import in_time, in_time_to_explain
from vision.worker.processors import Processors, available
from vision.worker.settings import ANSWER_BYTES, read_settings
from vision.worker.stages import HEADER, Stages

logger = logging.getLogger(__name__)
logger.setLevel(logging.INFO)

A = TypeVar("A")
B = TypeVar("B")
Outcome = Union[A, RequestError]  # of a step, for one request


class Handler:
    """Answers predict and explain requests in batches, each request independently of the others."""

    def initialize(self, context: torchserve.Context) -> None:
        """Called once in each worker, before it is ready. Raises ValueError for invalid settings."""
        system = context.system_properties
        model_dir = Path(system["model_dir"])
        settings = read_settings(context.model_yaml_config)
        limits, url = settings.limits, settings.url
        self._facts = read_facts(model_dir / "model.yaml")
        self._timeout_s = settings.response_timeout_s
        self._fetcher = UrlFetcher(url.allowed_hosts, url.timeout_s, limits.max_image_bytes, url.allow_http)
        self._processors = Processors(model_dir / WEIGHTS, settings.threads)
        self._pool = ThreadPoolExecutor(available(), "decode")
        torch.set_num_threads(settings.threads)
        self._classes = read_classes(model_dir / self._facts.classes)
        gpu_id, batch_size = system.get("gpu_id"), system["batch_size"]
        self._classifier = Classifier(model_dir, self._facts, settings, gpu_id, warm_size=batch_size)
        if self._classifier.classes != len(self._classes):
            raise ValueError(
                f"{self._facts.classes} has {len(self._classes)} classes, the network has {self._classifier.classes}"
            )
        self._explainer = Explainer(self._classifier, self._facts.preprocessing.mean)
        self._abandoned = Abandoned()
        self._limits = limits.of_model(len(self._classes), protocols.class_bytes(self._classes))
        self._version = torchserve.version_served(context)
        described = f"{self._classifier.description} {self._explainer.description}"
        logger.info("%s: %s", self._facts.name, described)
        if devices.is_slow(self._classifier.precision, self._classifier.device):
            logger.warning("%s: %s", self._facts.name, devices.SLOW)
        torchserve.quieten()

    def handle(self, rows: Any, context: torchserve.Context) -> list[Any]:
        """Answers a batch: each request is answered whole, or refused whole with its own status.

        rows: a list with one dict per request; under TorchServe's stock KServe envelope, the instances of a single
        request, which may be any JSON.
        """
        stages = Stages(len(context.request_processor))
        enveloped = torchserve.is_enveloped(rows, context)
        if enveloped:
            verb = torchserve.Row({}, context, 0).verb
            requests = [self._attempt(partial(self._parse_envelope, verb), rows)]
        else:
            self._abandoned.look()
            requests = [self._attempt(self._parse, row) for row in torchserve.each_row(rows, context)]
        requests = in_time_to_explain(requests, self._explainer.image_s)
        requests = in_time(requests, self._classifier.image_s, self._timeout_s, self._facts.preprocessing.crop)
        # Start every fetch before waiting for any.
        located = [self._attempt(self._locate, request) for request in requests]
        files = [self._attempt(self._wait, images) for images in located]
        self._attempt(self._cancel, None)
        with self._processors.lend(lone=len(requests) == 1) as threads:
            torch.set_num_threads(threads)
            pixels = [self._attempt(partial(self._decode, threads=threads), images) for images in files]
            stages.end("decode")
            probabilities = self._predict(pixels)
            answers = [
                self._attempt(partial(self._answer, request, images), rows)
                for request, images, rows in zip(requests, pixels, probabilities)
            ]
            stages.end("forward")
        bodies = torchserve.FinalBodies(
            self._encode(request, answer, context, index, stages)
            for index, (request, answer) in enumerate(zip(requests, answers))
        )
        if enveloped and isinstance(answers[0], Answer):
            return v1.predictions(answers[0])  # the envelope puts {"predictions": …} around them
        return bodies

    def _parse(self, row: torchserve.Row) -> Request:
        if row.key in self._abandoned:
            raise Busy()  # nobody reads this answer
        request = protocols.parse(row, self._limits)
        if request.verb is Verb.EXPLAIN and self._explainer.refusal:
            raise MalformedBody(self._explainer.refusal)
        return request

    def _parse_envelope(self, verb: Verb, instances: object) -> Request:
        if verb is Verb.EXPLAIN:  # the envelope would rename the answer
            raise MalformedBody("explanations are not available under TorchServe's own envelope: use :predict")
        return v1.instances_of_envelope(instances, self._limits)

    def _locate(self, request: Request) -> list[LocatedImage]:
        fetches = self._fetcher.for_request()
        return [
            locate_image(instance, place, self._limits.max_image_bytes, fetches)
            for instance, place in zip(request.instances, request.places)
        ]

    def _wait(self, images: list[LocatedImage]) -> list[EncodedImage]:
        return [image.wait() for image in images]

    def _cancel(self, _: None) -> None:
        """Cancels what the refused requests still have under way."""
        self._fetcher.cancel()

    def _decode(self, images: list[EncodedImage], threads: int) -> list[np.ndarray]:
        max_pixels, max_together = self._limits.max_pixels, self._limits.max_request_pixels
        opened = [self._open(image, max_pixels) for image in images]
        pixels = sum(image.pixels for image in opened)
        if pixels > max_together:
            raise TooLarge(opened[0].place.partition("[")[0], max_together, "pixels")
        # Decoded in parallel, they take no more memory than one image of the largest size.
        together = threads > 1 < len(opened) and pixels <= max_pixels
        decode = partial(image_decoder.decode, preprocessing=self._facts.preprocessing)
        return list((self._pool.map if together else map)(decode, opened))

    def _open(self, image: EncodedImage, max_pixels: int) -> image_decoder.OpenedImage:
        if isinstance(image.content, np.ndarray):
            return image_decoder.open_pixels(image.content, image.place, max_pixels)
        return image_decoder.open_image(image.content, image.place, max_pixels)

    def _predict(self, pixels: list[Outcome[list[np.ndarray]]]) -> list[Outcome[torch.Tensor]]:
        """For each request: the probabilities of its images, (images, classes), or the error that it already had.

        All images form one batch. If that fails, each request is tried on its own: perhaps only one of them fails.
        """
        sound = [images for images in pixels if not isinstance(images, RequestError)]
        if len(sound) > 1:
            together = self._attempt(self._classifier.probabilities, [image for images in sound for image in images])
            if not isinstance(together, RequestError):
                rows = iter(torch.split(together, [len(images) for images in sound]))
                return [images if isinstance(images, RequestError) else next(rows) for images in pixels]
        return [self._attempt(self._classifier.probabilities, images) for images in pixels]

    def _answer(
        self, request: Outcome[Request], pixels: Outcome[list[np.ndarray]], probabilities: torch.Tensor
    ) -> Answer:
        assert isinstance(request, Request), "a refused request has no probabilities"
        assert isinstance(pixels, list), "a refused request has no pixels"
        predictions = [top_k(row, request.top_k, self._classes) for row in probabilities]
        if request.verb is Verb.PREDICT:
            return Answer(predictions)
        wish = request.wish or Wish()
        explanations = [
            explain(self._explainer, image, prediction, row, wish, self._classes)
            for image, prediction, row in zip(pixels, predictions, probabilities)
        ]
        return Answer(predictions, explanations)

    def _attempt(self, step: Callable[[A], B], value: Outcome[A]) -> Outcome[B]:
        """The step's result, or the RequestError that it raised. An earlier RequestError passes through."""
        if isinstance(value, RequestError):
            return value
        try:
            return step(value)
        except RequestError as error:
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)  # its frames would keep the body alive
        except Exception:
            name = getattr(step, "func", step).__name__  # func: the function in a partial
            logger.exception("%s: defect in %s", self._facts.name, name)
            return Defect()

    def _encode(
        self,
        request: Outcome[Request],
        answer: Outcome[Answer],
        context: torchserve.Context,
        index: int,
        stages: Stages,
    ) -> bytes:
        response = self._attempt(partial(self._response, request), answer)
        if isinstance(response, Defect):  # its traceback is already in the log
            logger.error("%s: defect answered to %s", self._facts.name, torchserve.name_of_request(context, index))
        status = HTTPStatus(response.status if isinstance(response, RequestError) else HTTPStatus.OK)
        if isinstance(response, RequestError):
            response = Response(v1.error_body(response), v1.JSON)
        context.set_response_content_type(index, response.content_type)
        start = context.get_request_header(index, torchserve.REQUEST_START)
        own = {HEADER: stages.header(start), torchserve.VERSION: self._version}
        for name, value in {**own, **response.headers}.items():
            if value:
                context.set_response_header(index, name, value)
        context.set_response_status(status.value, status.phrase, index)
        return response.body

    def _response(self, request: Outcome[Request], answer: Answer) -> Response:
        assert isinstance(request, Request), "a refused request has no answer"
        response = protocols.encode(request, answer)
        if answer.explanations and len(response.body) > ANSWER_BYTES:
            raise TooLarge("explanations", ANSWER_BYTES, "bytes: ask for fewer images or fewer classes")
        return response
