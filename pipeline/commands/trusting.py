"""serve.sh: who must have signed what is served, from options or the serving image's variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.shared.errors import PipelineError

if TYPE_CHECKING:  # its library takes 0.9 s
    from pipeline.artefact.keyless import Identity

PUBLIC_KEY = "ALEXNET_PUBLIC_KEY"
IDENTITY, PROVIDER, TRUST_ROOT = "ALEXNET_IDENTITY", "ALEXNET_IDENTITY_PROVIDER", "ALEXNET_TRUST_ROOT"
OPTIONS = {
    PUBLIC_KEY: "--public-key",
    IDENTITY: "--identity",
    PROVIDER: "--identity-provider",
    TRUST_ROOT: "--trust-root",
}


def trusted(
    public_key: Path | None, identity: str | None, provider: str | None, trust_root: Path | None
) -> Path | Identity | None:
    """A key's file, or an identity; None if no signature is required. Raises PipelineError if the options are
    incomplete or contradict each other."""
    said = {PUBLIC_KEY: public_key, IDENTITY: identity, PROVIDER: provider, TRUST_ROOT: trust_root}
    for name, value in said.items():
        if value is None and name in os.environ:  # typer ignores an empty variable
            raise PipelineError(f"{name} is set, but empty: set it to what {OPTIONS[name]} takes, or unset it")
    asked = [name for name, value in said.items() if value is not None]
    if PUBLIC_KEY in asked and len(asked) > 1:
        raise PipelineError(
            f"{OPTIONS[PUBLIC_KEY]} and {OPTIONS[asked[1]]} exclude each other: trust either a key or an identity"
        )
    if public_key is not None or not asked:
        return public_key
    if identity is None or provider is None or trust_root is None:
        missing = " and ".join(OPTIONS[name] for name in (IDENTITY, PROVIDER, TRUST_ROOT) if name not in asked)
        raise PipelineError(f"an identity needs {missing} too")
    from pipeline.artefact.keyless import Identity

    return Identity(identity, provider, trust_root)
