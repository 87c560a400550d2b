"""A deployment imports little, and hides nothing from other code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAID = """
import sys
import pipeline.deployment.deploy
print("kubernetes.client" in sys.modules, {"kubernetes_validate", "jsonschema", "rfc3987_syntax"} & set(sys.modules))
import kubernetes_validate
print(kubernetes_validate.__name__)
"""


def test_the_kubernetes_package_is_imported_without_its_slow_part(checkout: Path) -> None:
    command = [sys.executable, "-c", SAID]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["True set()", "kubernetes_validate"]
