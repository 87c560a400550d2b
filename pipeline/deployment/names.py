"""The names of a service, and of what is named after it."""

from __future__ import annotations

import re
from typing import Any

from pipeline.shared.errors import PipelineError

SERVICE = "alexnet"  # the InferenceService of kserve/base

# A DNS label has at most 63 characters, and the longest name derived from this one is Knative's NAME-predictor-00001.
LONGEST = 47
CANDIDATE = "-candidate"  # ends the name of a new version that is compared with the live one

# Endings that objects add to a service's name: a service with such a name would take over another's objects.
TAKEN = {
    "-predictor": "KServe's Service for another service",
    "-metrics": "the Service of monitoring-prometheus for another service",
    "-public": "the route of public-gateway for another service",
    CANDIDATE: "the candidate of --golden for another service",
}

# Marks every name in a rendering until the service's name is known.
MARK = "name-to-come-"


def check_name(name: str) -> None:
    """Raises PipelineError if KServe would refuse an InferenceService of this name."""
    # https://github.com/kserve/kserve/blob/v0.20.0/pkg/apis/serving/v1beta1/inference_service_validation.go
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > LONGEST:
        raise PipelineError(
            f"{name!r} cannot be a service's name: use lower-case letters, digits and hyphens, "
            f"a letter first, no hyphen last, at most {LONGEST} characters"
        )


def check_free_ending(name: str) -> None:
    """Raises PipelineError if a new service's name would clash with another service's objects.

    An existing service may be older than the rule: it can still be rolled back and deleted.
    """
    for ending, whose in TAKEN.items():
        if name.endswith(ending):
            raise PipelineError(
                f"a service's name may not end in {ending}: {whose} has that ending; choose another --name"
            )


def named(value: Any, own: str, name: str) -> Any:
    """JSON in which names are marked, with the marks replaced.

    own: the service's name in the marked rendering. It becomes `name`, names that begin with it begin with `name`, and
    any other name gets the prefix `name-`.
    """
    if isinstance(value, dict):
        return {key: named(inner, own, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [named(inner, own, name) for inner in value]
    if isinstance(value, str):
        return value.replace(MARK + own, name).replace(MARK, f"{name}-")
    return value


def with_name(option: str, name: str) -> str:
    """An option of scripts/deploy.sh for this service: `--delete --name cats`."""
    return option if name == SERVICE else f"{option} --name {name}"
