"""The licence of this project, and those of what it includes, are where people and tools look for them."""

from __future__ import annotations

import hashlib
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

from tests.support.reference import WEIGHTS, torchvision

CHECKOUT = Path(__file__).resolve().parents[1]
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # pragma: allowlist secret


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_licence_is_apache_2() -> None:
    """Identical to https://www.apache.org/licenses/LICENSE-2.0.txt, so that GitHub and scanners recognise it."""
    text = (CHECKOUT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == APACHE_2
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE", "NOTICE"]


def test_the_notice_has_torchvisions_licence() -> None:
    """Its labels and its architecture are used here, and its licence requires this."""
    (file,) = (file for file in metadata.files("torchvision") or [] if file.name == "LICENSE")
    assert words(file.read_text()) in words((CHECKOUT / "NOTICE").read_text())


def test_the_notice_travels_with_the_labels(directory: Path) -> None:
    with zipfile.ZipFile(directory / "model-store" / "alexnet.mar") as archive:
        assert archive.read("NOTICE") == (CHECKOUT / "NOTICE").read_bytes()
    dockerfile = (CHECKOUT / "kserve" / "runtime" / "Dockerfile").read_text()
    assert "COPY LICENSE NOTICE /licenses/" in dockerfile
    assert 'org.opencontainers.image.licenses="Apache-2.0"' in dockerfile


def test_the_model_card_says_what_torchvision_says() -> None:
    card = (CHECKOUT / "docs" / "model-card.md").read_text()
    said = WEIGHTS.meta["_metrics"]["ImageNet-1K"]
    assert f"{said['acc@1']} % for the first class, {said['acc@5']} % for the first five" in card
    assert f"{sum(weight.numel() for weight in torchvision.models.alexnet().parameters()):,} parameters" in card
    assert f"{WEIGHTS.meta['_ops']:.2f} billion multiply-adds" in card
