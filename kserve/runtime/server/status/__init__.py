"""The server's status: whether the model answers, what it is called, and how to call it.

    a GET through the front door → listener.py: a Unix socket
                                 → answers.py: path → answer, from the model's latest answer
                                 → documents.py: /openapi.json from openapi.yaml, and /docs from that

The kubelet's probes are separate (server/health.py).
"""

from __future__ import annotations

from server.status.listener import IMAGE, StatusServer

__all__ = ["IMAGE", "StatusServer"]
