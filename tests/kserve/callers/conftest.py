"""One server for all tests here, with everything enabled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kserve.callers.service import (
    AUDIENCE,
    ISSUER,
    OTHER_ORIGIN,
    PER_CLIENT,
    Issuer,
    Secret,
    Service,
    serving,
)
from tests.support.in_a_thread import in_a_thread
from tests.support.website import Website


@pytest.fixture(scope="package")
def site() -> Iterator[Website]:
    """The site of a page with another origin."""
    with in_a_thread(Website()) as made:
        yield made


@pytest.fixture(scope="package")
def running(light_directory: Path, site: Website, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Everything is enabled."""
    folder = tmp_path_factory.mktemp("who")
    issuer, secret = Issuer(), Secret(folder / "keys")
    (folder / "jwks.json").write_text(issuer.jwks())
    environment = {
        "API_KEYS": str(secret.folder),
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCES": f"another, {AUDIENCE}",
        "JWT_JWKS_FILE": str(folder / "jwks.json"),
        "RATE_LIMIT_PER_CLIENT": str(PER_CLIENT),
        "CORS_ALLOWED_ORIGINS": f"{OTHER_ORIGIN}, {site.url}",
        "MAX_REQUESTS": "2",
    }
    with serving(light_directory, environment) as parts:
        service = Service(*parts, issuer, secret)
        yield service
        service.http.close()
