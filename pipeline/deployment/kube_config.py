"""Connecting to the cluster of the current kube context."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import urllib3
import yaml

from pipeline.deployment.errors import GET_CREDENTIALS, LOGIN, KubeConfigUnusable
from pipeline.deployment.sdk import client, config
from pipeline.shared.errors import PipelineError
from pipeline.shared.text import one_line

DEFAULT_CONFIG = "~/.kube/config"


@dataclass(frozen=True)
class Context:
    api: client.ApiClient
    name: str
    namespace: str


def current_context() -> Context:
    """Raises PipelineError if there is no kube config, it cannot be used, or its credentials plugin failed."""
    where = os.environ.get("KUBECONFIG") or DEFAULT_CONFIG
    files = [os.path.expanduser(file) for file in where.split(os.pathsep) if file]
    if not any(os.path.exists(file) for file in files):
        raise PipelineError(f"no kube config at {where}: {GET_CREDENTIALS}")
    configuration = client.Configuration()
    try:
        with _errors_logged() as lines:  # the kubernetes package logs its plugins' failures
            _, current = config.list_kube_config_contexts(where)  # type: ignore[no-untyped-call]
            config.load_kube_config(  # type: ignore[no-untyped-call]
                where, client_configuration=configuration, persist_config=False
            )
    except (config.ConfigException, yaml.YAMLError, OSError, LookupError, TypeError, ValueError) as error:
        raise KubeConfigUnusable(where, _problem(error)) from None
    if lines:
        raise PipelineError(f"the kube config's credentials plugin failed ({one_line(lines[-1], 300)}): {LOGIN}")
    configuration.retries = urllib3.Retry(total=1, redirect=0, status=0)
    return Context(client.ApiClient(configuration), current["name"], current["context"].get("namespace") or "default")


def _problem(error: Exception) -> str:
    name = re.search(r"object with name (.*) in \S+/contexts list", str(error))
    if name and name[1]:
        return f"has no context {name[1]}: choose another with kubectl config use-context, or {GET_CREDENTIALS}"
    if name or "current-context" in str(error):
        return "has no current context: choose one with kubectl config use-context"
    return f"cannot be used ({one_line(error, 300)}): {GET_CREDENTIALS}"


@contextmanager
def _errors_logged() -> Iterator[list[str]]:
    handler = _Lines(logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        yield handler.lines
    finally:
        logging.getLogger().removeHandler(handler)


class _Lines(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
