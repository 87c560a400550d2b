"""The unavoidable part of TorchServe's start-up: a JVM, and `import torch`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.groups import Group
from pipeline.serving.java import java_home
from pipeline.shared.ports import LOOPBACK, Ports

POLL_S = 0.01
PATIENCE_S = 60


def floor() -> dict[str, float]:
    """Seconds: `jvm` (java -version), `front_end` (TorchServe without a model, until /ping), `import_torch`."""
    return {
        "jvm": _seconds([str(java_home() / "bin" / "java"), "-version"]),
        "front_end": _front_end(),
        "import_torch": _seconds([sys.executable, "-c", "import torch"]),
    }


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def _front_end() -> float:
    ports = Ports.any_free()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        config = Path(scratch) / "config.properties"
        config.write_text(
            f"inference_address=http://{LOOPBACK}:{ports.inference}\n"
            f"management_address=http://{LOOPBACK}:{ports.management}\n"
            f"metrics_address=http://{LOOPBACK}:{ports.metrics}\n"
            f"grpc_inference_port={ports.grpc_inference}\ngrpc_management_port={ports.grpc_management}\n"
            "disable_system_metrics=true\n"
        )
        command: list[object] = [sys.executable, "-P", "-m", "ts.model_server", "--start", "--foreground", "--ncs"]
        command += ["--ts-config", config, "--model-store", scratch]
        variables = {"JAVA_HOME": str(java_home()), "TEMP": scratch, "TMPDIR": scratch, "PYTHONPATH": ""}
        began = time.perf_counter()
        with Group(command, Path(scratch), variables) as group, httpx.Client(trust_env=False) as http:
            while time.perf_counter() - began < PATIENCE_S:
                group.check_alive()
                try:
                    http.get(f"http://{LOOPBACK}:{ports.inference}/ping")
                except httpx.HTTPError:
                    time.sleep(POLL_S)
                else:
                    return time.perf_counter() - began
            raise TimeoutError(f"TorchServe without a model did not answer within {PATIENCE_S} s")
