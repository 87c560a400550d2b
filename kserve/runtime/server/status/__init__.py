"""What the server says of itself: whether the model answers, what it is called, and how it is asked.

    a GET through the front door → listener.py: a Unix socket
                                 → answers.py: path → answer, from what the model last answered
                                 → documents.py: /openapi.json from openapi.yaml, and /docs from that

Kubelet's probes are apart from this (server/health.py).
"""

from __future__ import annotations

from server.status.listener import IMAGE, StatusServer

__all__ = ["IMAGE", "StatusServer"]
