"""The kubernetes package, as all of this folder imports it."""

from __future__ import annotations

import sys

# Where kubernetes_validate is installed, as it is for the tests, that package imports it for a check that nothing here
# asks for, and with it a grammar that takes more than a second of each deploy.sh to build.
UNWANTED = "kubernetes_validate"

_imported = sys.modules.get(UNWANTED)
sys.modules[UNWANTED] = None  # type: ignore[assignment]  # it cannot be imported
try:
    from kubernetes import client, config
finally:
    del sys.modules[UNWANTED]
    if _imported:
        sys.modules[UNWANTED] = _imported

__all__ = ["client", "config"]
