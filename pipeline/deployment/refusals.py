"""What went wrong with a call to the API server, in one line, with what to do."""

from __future__ import annotations

import re

import urllib3

from pipeline.deployment.answer import Answer
from pipeline.deployment.errors import GET_CREDENTIALS, LOGIN, MayNot, NoAnswer, Refused, Unreachable
from pipeline.shared.text import one_line


def unreachable(error: Exception, context: str, host: str) -> Unreachable:
    """What to raise if there was no answer. context: its name in the kube config."""
    reason = getattr(error, "reason", None) or error
    kind = NoAnswer if isinstance(reason, urllib3.exceptions.ReadTimeoutError) else Unreachable
    said = one_line(reason, 300)
    if "certificate" in said.lower():
        return kind(f"the certificate of {host} is not trusted ({said}): {GET_CREDENTIALS}")
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        said = "its name cannot be resolved"
    elif isinstance(reason, urllib3.exceptions.NewConnectionError):
        said = said.rpartition("] ")[2].lower()
    elif isinstance(reason, urllib3.exceptions.TimeoutError):
        said = "no answer in time"
    return kind(
        f"the cluster of context {context} does not answer at {host} ({said}): check that it is running and that this "
        f"network can reach it, or {GET_CREDENTIALS}"
    )


def refusal(answer: Answer, method: str, path: str) -> Refused | Unreachable:
    """What to raise for an answer whose status is not 2xx."""
    said, status = answer.message, answer.status
    is_passing = status == 500 and method == "GET"  # for example "etcdserver: leader changed"
    if is_passing or status in (429, 502, 503, 504):
        return Unreachable(f"the API server is busy ({status}: {said}): run this again in a minute")
    if status == 401 or "system:anonymous" in said:
        return Refused(f"the cluster does not accept your credentials (expired, or none): {LOGIN}", status)
    if sentence := _of_admission(said, path):
        return Refused(sentence, status)
    if status == 403 and (may_not := _permission_missing(said)):
        return may_not
    causes = answer.fields.get("details", {}).get("causes", [])
    if conflicts := [found for found in causes if found.get("reason") == "FieldManagerConflict"]:
        return Refused(_conflict(conflicts, path), status)
    return Refused(f"{method} {path}: the API server refuses ({status}): {said}", status)


def _of_admission(said: str, path: str) -> str | None:
    """If admission refuses the object, whoever sent it."""
    if webhook := re.search(r'admission webhook "([^"]+)" denied the request: (?:\[?denied by \S+\]? )?(.*)', said):
        return f"{_title(path)} is refused by the admission webhook {webhook[1]}: {webhook[2]}"
    if webhook := re.search(r'failed calling webhook "([^"]+)": (.*)', said):
        return (
            f"the admission webhook {webhook[1]} does not answer ({webhook[2]}): "
            "see kubectl -n kserve get pods, and wait until KServe is running"
        )
    if "exceeded quota" in said:
        return f"{_title(path)}: {said[said.index('exceeded quota') :]}: free some, or have the quota raised"
    if missing := re.search(r'^namespaces "([^"]+)" not found', said):
        return f"there is no namespace {missing[1]}: kubectl create namespace {missing[1]}, or choose another"
    return None


def _permission_missing(said: str) -> MayNot | None:
    may_not = re.search(r'cannot (\w+) resource "([^"]+)" in API group "([^"]*)"(.*)', said)
    if may_not is None:
        return None
    verb, plural, group, rest = may_not.groups()
    place = re.search(r'in the namespace "([^"]+)"', rest)
    return MayNot(f"{verb} {plural}.{group}" if group else f"{verb} {plural}", place[1] if place else None)


def _conflict(causes: list[dict[str, str]], path: str) -> str:
    managers = sorted({(re.search(r'"([^"]+)"', cause["message"]) or ["", "another manager"])[1] for cause in causes})
    fields = ", ".join(cause["field"] for cause in causes)
    where = re.search(r"/namespaces/([^/]+)/([^/]+)/([^/]+)$", path)
    removal = f" (kubectl -n {where[1]} delete {where[2]} {where[3]})" if where else ""
    return (
        f"{_title(path)}: {fields} was set by another field manager, {' and '.join(managers)}: "
        f"change it with that, or remove the object{removal} and run this again"
    )


def _title(path: str) -> str:
    plural, name = path.rsplit("/", 2)[-2:]
    return f"{name} ({plural})"
