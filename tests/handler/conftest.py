"""A worker's view of the handler: an unpacked archive, and the context that TorchServe passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ts.context import Context, RequestProcessor

from entry import Handler
from vision.model.facts import Facts, read_facts
from vision.worker.settings import Limits, Settings, read_settings


@pytest.fixture(scope="session")
def config(model_dir: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((model_dir / "model-config.yaml").read_text()))


@pytest.fixture(scope="session")
def settings(config: dict[str, Any]) -> Settings:
    return read_settings(config)


@pytest.fixture(scope="session")
def limits(settings: Settings) -> Limits:
    return settings.limits.of_model(classes=1000, class_bytes=100)


@pytest.fixture(scope="session")
def facts(model_dir: Path) -> Facts:
    return read_facts(model_dir / "model.yaml")


def worker_context(model_dir: Path, config: dict[str, Any]) -> Context:
    """TorchServe's own context, as ts.service.Service builds it for a worker."""
    manifest = json.loads((model_dir / "MAR-INF" / "MANIFEST.json").read_text())
    return Context("alexnet", str(model_dir), manifest, config["batchSize"], None, "0.12.0", model_yaml_config=config)


@pytest.fixture(scope="session")
def handler(model_dir: Path, config: dict[str, Any]) -> Handler:
    loaded = Handler()
    loaded.initialize(worker_context(model_dir, config))
    return loaded


class Worker:
    """Passes batches to a handler and reads the answers, both as TorchServe does."""

    def __init__(self, handler: Handler, model_dir: Path, config: dict[str, Any]) -> None:
        self.handler = handler
        self._context = worker_context(model_dir, config)

    def predict(self, *requests: tuple[str, Any]) -> list[tuple[int, str, bytes]]:
        """(content type, body) for each request of one batch → (status, content type, body) for each."""
        rows = [{"body": body} for _, body in requests]
        self._prepare([{"body": {"content-type": content_type}} for content_type, _ in requests])
        return self._answers(self.handler.handle(rows, self._context), len(requests))

    def raw(self, rows: Any, headers: list[dict[str, Any]]) -> list[tuple[int, str, bytes]]:
        self._prepare(headers)
        return self._answers(self.handler.handle(rows, self._context), len(headers))

    def stages(self, count: int) -> list[str]:
        """What the latest answers tell the front door about their batch."""
        return self.told("x-stages", count)

    def told(self, header: str, count: int) -> list[str]:
        """A header of the latest answers."""
        return [self._context.get_response_headers(index)[header] for index in range(count)]

    def enveloped(self, instances: Any, explain: bool = False) -> tuple[int, Any]:
        """Runs the stock envelope's own code → (status, what TorchServe would serialise)."""
        from ts.torch_handler.request_envelope.kserve import KServeEnvelope

        self._prepare([{"explain": str(explain)}])
        (answer,) = KServeEnvelope(self.handler.handle).handle([{"body": {"instances": instances}}], self._context)
        return self._context.get_response_status(0)[0], answer

    def _prepare(self, headers: list[dict[str, Any]]) -> None:
        self._context.request_processor = [RequestProcessor(header) for header in headers]

    def _answers(self, bodies: list[Any], expected: int) -> list[tuple[int, str, bytes]]:
        assert isinstance(bodies, list)
        assert len(bodies) == expected
        return [
            (self._context.get_response_status(i)[0], self._context.get_response_content_type(i), bytes(body))
            for i, body in enumerate(bodies)
        ]


@pytest.fixture
def worker(handler: Handler, model_dir: Path, config: dict[str, Any]) -> Worker:
    return Worker(handler, model_dir, config)
