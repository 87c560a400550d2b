"""Who must have signed what is served, from the environment. Without its variables, no signature is needed."""

from __future__ import annotations

import os
from pathlib import Path

from server.errors import NotServed
from server.folder import Folder
from server.identity import Identity
from server.public_key import PublicKey
from server.signature import Trusted, check_signature

PUBLIC_KEY = "ALEXNET_PUBLIC_KEY"
IDENTITY = ("ALEXNET_IDENTITY", "ALEXNET_IDENTITY_PROVIDER", "ALEXNET_TRUST_ROOT")


def trusted_folder(models: Path) -> Folder:
    """The folder to serve. Raises NotServed if a required signature is missing or wrong."""
    asked = [name for name in (PUBLIC_KEY, *IDENTITY) if name in os.environ]
    if not asked:
        return Folder(models)
    try:
        return check_signature(models, _trusted(asked))
    except NotServed as fault:
        raise NotServed(f"{fault}: TorchServe is not started, since {asked[0]} is set") from None


def _trusted(asked: list[str]) -> Trusted:
    if asked == [PUBLIC_KEY]:
        return PublicKey(Path(os.environ[PUBLIC_KEY]))
    if PUBLIC_KEY in asked:
        raise NotServed(f"{asked[1]} is set too: trust either a key or an identity")
    # Empty counts as missing: Sigstore's library would accept any provider for an empty one.
    if missing := [name for name in IDENTITY if not os.environ.get(name)]:
        raise NotServed(f"an identity needs {' and '.join(missing)} too")
    name, provider, trust_root = (os.environ[name] for name in IDENTITY)
    return Identity(name, provider, Path(trust_root))
