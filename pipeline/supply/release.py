"""The version is in pyproject.toml. Files that kubectl and Terraform read cannot take it from there, so they repeat it.

    python -m pipeline.supply.release 0.2.0    sets it in all of them (make version NEW=0.2.0)

Needs nothing but the standard library: it runs before `make setup`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path

from pipeline.shared.checkout import CHECKOUT
from pipeline.shared.whole import written_whole

PYPROJECT = "pyproject.toml"
# The text around the version, which stands once in each file.
PLACES = {
    PYPROJECT: '\nversion = "{}"\n',
    "kserve/overlays/kind/upload.yaml": " image: alexnet-torchserve:{}\n",
    "kserve/runtime/sbom.cdx.json": '"name": "alexnet-torchserve",\n      "version": "{}",\n',
    "kserve/runtime/serving-runtime.yaml": " image: alexnet-torchserve:{}\n",
    "terraform/cluster/outputs.tf": '/alexnet-torchserve:{}"',
}
# Of Semantic Versioning, what a tag of an image takes too: no build metadata.
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-rc\.[1-9]\d*)?")


class NotReleased(Exception):
    """The version is not set, anywhere; the sentence says why."""


def version(checkout: Path = CHECKOUT) -> str:
    """The one in pyproject.toml."""
    told = tomllib.loads((checkout / PYPROJECT).read_text())["project"]["version"]
    assert isinstance(told, str)
    return told


def set_version(new: str, checkout: Path = CHECKOUT) -> list[str]:
    """In all places or in none. Returns the files that have it now.

    Raises NotReleased where it is no version, or a place does not have the old one.
    """
    if not VERSION.fullmatch(new):
        raise NotReleased(f"{new!r} is no version: three numbers, as 0.2.0, perhaps with -rc.1")
    old = version(checkout)
    with ExitStack() as files:  # replaces all of them at its end, once all are written
        for name, around in PLACES.items():
            text = (checkout / name).read_text()
            if text.count(around.format(old)) != 1:
                raise NotReleased(f"{name} does not have the version {old} in its place: mend it, nothing was changed")
            changed = text.replace(around.format(old), around.format(new))
            files.enter_context(written_whole(checkout / name)).write(changed.encode())
    return list(PLACES)


def main() -> int:
    try:
        changed = set_version(sys.argv[1])
    except NotReleased as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    except OSError as reason:
        print(f"error: {reason.filename}: {reason.strerror}: nothing was changed", file=sys.stderr)
        return 1
    print(f"{sys.argv[1]} is in {', '.join(changed)}; CONTRIBUTING.md says how a release goes on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
