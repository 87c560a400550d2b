"""What a second service in a namespace can consist of: each overlay, and the base with each component or many."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from tests.support.renderings import COMPONENTS, MANIFESTS, ON_KNATIVE, ON_STANDARD, OVERLAYS, in_order

APART_FROM_MANY = {"autoscaling-hpa", "local-archive", "public-endpoint-iap", "stock-runtime"}
MANY = set(COMPONENTS) - APART_FROM_MANY

Choice = tuple[str, ...]  # an overlay, or "base" and components

CHOICES: list[Choice] = [
    *((name,) for name in OVERLAYS),
    *(("base", *in_order((name,))) for name in COMPONENTS),
    ("base", *in_order(tuple(MANY - ON_KNATIVE - {"knative"}))),
    ("base", *in_order(tuple(MANY - ON_STANDARD))),
]


def called(choice: Choice) -> str:
    """For the test's name."""
    return "+".join(choice) if len(choice) < 5 else f"{choice[0]}+{len(choice) - 1} components"


def write_overlay(folder: Path, choice: Choice, **more: object) -> Path:
    """A folder for kustomize with this choice, and further fields in its kustomization."""
    folder.mkdir(parents=True)
    root = os.path.relpath(MANIFESTS, folder.resolve())
    first, *components = choice
    fields: dict[str, object] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{root}/{first if first == 'base' else f'overlays/{first}'}"],
        "components": [f"{root}/components/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(fields | more))
    return folder
