"""The kubernetes package, as this whole folder imports it."""

from __future__ import annotations

import sys

# If kubernetes_validate is installed, as it is for the tests, the kubernetes package imports it for a check that is not
# used here, and with it a grammar that takes each deploy.sh more than a second to build.
UNWANTED = "kubernetes_validate"

_imported = sys.modules.get(UNWANTED)
sys.modules[UNWANTED] = None  # type: ignore[assignment]  # makes importing it fail
try:
    from kubernetes import client, config
finally:
    del sys.modules[UNWANTED]
    if _imported:
        sys.modules[UNWANTED] = _imported

__all__ = ["client", "config"]
