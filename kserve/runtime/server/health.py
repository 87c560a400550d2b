"""The kubelet's probes: GET /startup, /ready and /live. They report known state and put no load on the model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

from server import variables
from server.door import Door
from server.model import Model
from server.small_server import Connection, SmallServer

HEALTH_ADDRESS = os.environ.get("HEALTH_ADDRESS") or "0.0.0.0"  # noqa: S104  # for the kubelet  # nosec B104
HEALTH_PORT = variables.port("HEALTH_PORT", 8079)
READY_WITHIN_S = variables.seconds("READY_WITHIN_S", 60)
LIVE_WITHIN_S = variables.seconds("LIVE_WITHIN_S", 180)

Probes = Mapping[str, Callable[[], bool]]  # path → whether all is well


def listen(model: Model, door: Door, stopping: threading.Event) -> HealthServer:
    """Raises NotServed if the port is taken."""
    return HealthServer(
        {
            "/startup": lambda: model.started and door.open,
            "/ready": lambda: model.answered_within(READY_WITHIN_S) and door.open and not stopping.is_set(),
            "/live": lambda: model.answered_within(LIVE_WITHIN_S),
        }
    )


class HealthServer(SmallServer):
    """Answers the probes."""

    def __init__(self, probes: Probes) -> None:
        self.probes = probes
        super().__init__(HEALTH_ADDRESS, HEALTH_PORT, Health, "HEALTH_PORT")


class Health(Connection):
    """One connection."""

    server: HealthServer

    def do_GET(self) -> None:  # noqa: N802  # http.server's name for it
        probe = self.server.probes.get(self.path)
        if probe is None:
            self.send_error(404)
            return
        self.send_response(200 if probe() else 503)
        self.end_headers()
