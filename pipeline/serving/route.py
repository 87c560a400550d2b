"""The paths at which a model answers, in KServe's protocols."""

from __future__ import annotations

MODELS_ROUTE = "/v1/models"


def predict_route(model: str) -> str:
    """The name of a model → the path that predict calls are sent to."""
    return f"{model_route(model)}:predict"


def explain_route(model: str) -> str:
    """The same for explanations."""
    return f"{model_route(model)}:explain"


def infer_route(model: str) -> str:
    """The same in v2."""
    return f"{v2_route(model)}/infer"


def v2_route(model: str) -> str:
    """The path under which the server describes the model in v2."""
    return f"/v2/models/{model}"


def model_route(model: str) -> str:
    """The path at which the server reports whether the model answers; it needs no credentials."""
    return f"{MODELS_ROUTE}/{model}"
