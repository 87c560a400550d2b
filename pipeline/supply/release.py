"""The version is in pyproject.toml. Files for kubectl and Terraform cannot read it from there, so they repeat it.

    python -m pipeline.supply.release 0.2.0    sets it in all of them (make version NEW=0.2.0)

Needs only the standard library, as it runs before `make setup`.
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
# The text around the version, which is in each file exactly once.
PLACES = {
    PYPROJECT: '\nversion = "{}"\n',
    "kserve/overlays/kind/upload.yaml": " image: alexnet-torchserve:{}\n",
    "kserve/runtime/sbom.cdx.json": '"name": "alexnet-torchserve",\n      "version": "{}",\n',
    "kserve/runtime/serving-runtime.yaml": " image: alexnet-torchserve:{}\n",
    "terraform/cluster/outputs.tf": '/alexnet-torchserve:{}"',
}
# Semantic versions that can also be an image's tag: no build metadata.
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-rc\.[1-9]\d*)?")


class NotReleased(Exception):
    """The version was not changed in any file; the message says why."""


def version(checkout: Path = CHECKOUT) -> str:
    """The one in pyproject.toml."""
    told = tomllib.loads((checkout / PYPROJECT).read_text())["project"]["version"]
    assert isinstance(told, str)
    return told


def set_version(new: str, checkout: Path = CHECKOUT) -> list[str]:
    """In all places or in none. Returns the files that have it now.

    Raises NotReleased if it is not a version, or a file does not have the old one.
    """
    if not VERSION.fullmatch(new):
        raise NotReleased(f"{new!r} is not a version: use three numbers, such as 0.2.0, optionally with -rc.1")
    old = version(checkout)
    with ExitStack() as files:  # replaces all files at the end, once all are written
        for name, around in PLACES.items():
            text = (checkout / name).read_text()
            if text.count(around.format(old)) != 1:
                raise NotReleased(
                    f"{name} does not have the version {old} in its place: correct it (nothing was changed)"
                )
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
    print(f"{sys.argv[1]} is in {', '.join(changed)}; CONTRIBUTING.md has the next steps of a release")
    return 0


if __name__ == "__main__":
    sys.exit(main())
