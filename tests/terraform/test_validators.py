"""The plans of terraform/'s own tests would pass the providers' validators, and each argument was looked up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hcl import Arguments, set_arguments
from tests.support.terraform import CHECKOUT, FOLDERS, Resource
from tests.terraform.cluster_arguments import IN_CLUSTER, LABELS
from tests.terraform.google_arguments import (
    BUCKET_LABELS,
    CLUSTER,
    FEDERATION_ID,
    GCE_NAME,
    GOOGLE,
    IAM_MEMBER,
    NODE_POOL,
    SERVICE_ACCOUNT_LINK,
    rfc1035,
)
from tests.terraform.validators import (
    ADDRESS,
    ANY,
    CIDR,
    DURATION,
    RFC3339,
    WHOLE,
    Check,
    Kind,
    at_least,
    between,
    each,
    float_between,
    items,
    length,
    listed,
    matches,
    network,
    one_of,
    only,
    refusals,
)
from tests.terraform.watching_arguments import WATCHING

pytestmark = pytest.mark.timeout(600)  # the first test that needs it waits for all of `terraform test`

KINDS = GOOGLE | WATCHING | IN_CLUSTER


def arguments(folder: str) -> Arguments:
    """The arguments of each resource and data source of a folder."""
    found: Arguments = {}
    for path in sorted((CHECKOUT / "terraform" / folder).glob("*.tf")):
        found |= set_arguments(path.read_text())
    return found


SET = {f"{folder}/{address}": paths for folder in FOLDERS for address, paths in arguments(folder).items()}


def kind_of(address: str) -> str:
    """`cluster/data.google_project.this` → `data.google_project`"""
    return address.partition("/")[2].rpartition(".")[0]


def address_of(resource: Resource) -> str:
    """Without the key of `for_each` or `count`."""
    return f"{resource['folder']}/{resource['address'].partition('[')[0]}"


# --- The tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", sorted(SET))
def test_every_argument_was_looked_up(address: str) -> None:
    kind = kind_of(address)
    assert kind in KINDS, f"{kind} is new: read its validators in the provider's code, and add it to the table"
    unknown = SET[address] - set(KINDS[kind].arguments)
    assert not unknown, f"{kind}: read the validators of these in {KINDS[kind].source}, and add them to the table"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_table_has_nothing_that_is_not_set(kind: str) -> None:
    used = {path for address, paths in SET.items() if kind_of(address) == kind for path in paths}
    assert set(KINDS[kind].arguments) - used - {""} == set()


# --- The plans --------------------------------------------------------------------------------------------------------


def unknown(values: Any, path: str) -> bool:
    """Whether a plan's `after_unknown` has it."""
    name, _, rest = path.partition(".")
    if isinstance(values, list):
        return any(unknown(value, path) for value in values)
    found = values.get(name, False) if isinstance(values, dict) else values
    return unknown(found, rest) if rest else found is True


def refused(resource: Resource) -> list[str]:
    """What its provider would refuse in the values that its text sets, not a mock's."""
    address = address_of(resource)
    to_come = frozenset(path for path in SET[address] if unknown(resource["unknown"], path))
    values = only(resource["values"], SET[address])
    return [f"{address}: {wrong}" for wrong in refusals(KINDS[resource["type"]], values, to_come)]


def test_no_plan_would_be_refused(planned: list[Resource], read: list[Resource]) -> None:
    assert sorted({wrong for resource in [*planned, *read] for wrong in refused(resource)}) == []


def test_every_check_was_used(planned: list[Resource], read: list[Resource]) -> None:
    met: set[tuple[str, str]] = set()
    for resource in [*planned, *read]:
        values = only(resource["values"], SET[address_of(resource)])
        met |= {(resource["type"], path) for path in KINDS[resource["type"]].arguments if path and listed(values, path)}
    checks = {
        (kind_of(address), path)
        for address, paths in SET.items()
        for path in paths
        if KINDS[kind_of(address)].arguments[path].wanted
    }
    assert checks - met == set(), "no test of terraform/ plans these"


# --- The checks themselves --------------------------------------------------------------------------------------------

# The answers of the Go function that each docstring names.
TAKEN: list[tuple[Check, list[Any], list[Any]]] = [
    (one_of("A", "b"), ["A", "b"], ["B", "", "Ab"]),
    (each(one_of("A", "b")), [[], ["A"], ["b", "A"]], [["A", "c"]]),
    (matches("^[a-z]+$"), ["ab"], ["", "a1", "ab\n"]),
    (WHOLE, [-1, 0, 2.0], [1.5, True]),
    (at_least(10), [10, 11.0], [9, 10.5]),
    (between(1, 3), [1, 3], [0, 4, 2.5]),
    (float_between(0, 1), [0, 0.5, 1], [-0.1, 1.1]),
    (items(1, 2), [["a"]], [[], ["a", "b", "c"]]),
    (length(1, 4), ["a", "äö"], ["", "äöü"]),
    (
        network(8, 24),
        ["10.0.0.0/8", "203.0.113.0/24"],
        ["203.0.113.7/24", "10.0.0.0/7", "10.0.0.0/25", "10.0.0.0"],
    ),
    (network(0, 32), ["2001:db8::/32"], ["2001:db8::/33", "010.0.0.0/8"]),
    (CIDR, ["10.0.0.7/8", "2001:db8::1/64"], ["10.0.0.0", "10.0.0.0/33", "300.0.0.0/8", "10.1/16"]),
    (ADDRESS, ["10.0.0.1", "::1"], ["10.0.0.0/8", "1.2.3", ""]),
    (RFC3339, ["2026-01-03T01:00:00Z", "2026-01-03T01:00:00.5+01:00"], ["2026-01-03", "2026-13-03T01:00:00Z"]),
    (DURATION, ["0", "300s", "1h30m", "1.5h", "-2us"], ["", "5", "1d", "s"]),
    (GCE_NAME, ["a", "alexnet-nodes"], ["", "a-", "1a", "A", "a_b", "a" * 64]),
    (rfc1035(6, 30), ["alexnet-nodes"], ["short", "a" * 31, "ends-in-", "1beginning"]),
    (FEDERATION_ID, ["alexnet-github"], ["gcp-github", "abc", "A-github", "a" * 33]),
    (IAM_MEMBER, ["user:me@example.com", "allUsers"], ["me@example.com", "deleted:user:me@example.com", ""]),
    (
        SERVICE_ACCOUNT_LINK,
        ["projects/my-project/serviceAccounts/alexnet-build@my-project.iam.gserviceaccount.com"],
        ["alexnet-build@my-project.iam.gserviceaccount.com", "projects/p/serviceAccounts/x@p.iam.gserviceaccount.com"],
    ),
    (BUCKET_LABELS, [{}, {"a": "b"}], [{"A": "b"}, {"a" * 64: "b"}]),
    (
        LABELS,
        [{}, {"a": ""}, {"example.com/a_b": "B.1"}],
        [{"a/b/c": ""}, {"a": "-"}, {"A.com/a": ""}, {"a": "b" * 64}],
    ),
]


@pytest.mark.parametrize(("check", "taken", "refused"), TAKEN, ids=[check.wanted for check, _, _ in TAKEN])
def test_a_check_answers_as_the_provider_does(check: Check, taken: list[Any], refused: list[Any]) -> None:
    assert [value for value in taken if not check.fits(value)] == []
    assert [value for value in refused if check.fits(value)] == []


FAMILY = Kind(
    "",
    {
        "": ANY.but(exactly_one_of=("name", "prefix")),
        "a": ANY.but(conflicts=("block.b",)),
        "block": ANY.but(at_least_one_of=("block.b", "block.c")),
        "block.d": ANY.but(required_with=("name",)),
    },
)


@pytest.mark.parametrize(
    ("values", "to_come", "wrong"),
    [
        ({"name": "n"}, (), []),
        ({}, (), ["it: exactly one of name, prefix"]),
        ({"name": "n", "prefix": "p"}, (), ["it: exactly one of name, prefix"]),
        ({"name": "n"}, ("prefix",), ["it: exactly one of name, prefix"]),
        ({}, ("prefix",), []),
        ({"name": "n", "a": False, "block": [{"b": 0}]}, (), ["a: conflicts with block.b"]),
        ({"name": "n", "a": None, "block": [{"b": 0}]}, (), []),
        ({"name": "n", "a": 1, "block": []}, (), []),
        ({"name": "n", "block": [{"b": None}]}, (), ["block: at least one of block.b, block.c"]),
        ({"prefix": "p", "block": [{"c": 1}, {"c": 1, "d": 1}]}, (), ["block.d: asks for name"]),
    ],
)
def test_incompatible_arguments_are_found(values: dict[str, Any], to_come: tuple[str, ...], wrong: list[str]) -> None:
    assert list(refusals(FAMILY, values, frozenset(to_come))) == wrong


@pytest.mark.parametrize(
    ("kind", "values", "wrong"),
    [
        (NODE_POOL, {"node_config": [{"disk_size_gb": 20.5}]}, "node_config.disk_size_gb: 20.5 is not a whole number"),
        (NODE_POOL, {"node_config": [{"taint": [{"effect": "NoSchedule"}]}]}, "node_config.taint.effect: 'NoSchedule'"),
        (NODE_POOL, {"upgrade_settings": [{"strategy": "BLUE_GREEN", "max_surge": 1}]}, "surge settings"),
        (NODE_POOL, {"upgrade_settings": [{"blue_green_settings": [{}]}]}, "blue-green settings"),
        (NODE_POOL, {"initial_node_count": 1, "node_count": 1}, "cannot set both"),
        (CLUSTER, {"enable_shielded_nodes": True, "enable_autopilot": False}, "conflicts with enable_autopilot"),
        (CLUSTER, {"maintenance_policy": [{"recurring_window": [{"end_time": "03:00"}]}]}, "end_time: '03:00' is not"),
        (CLUSTER, {"maintenance_policy": [{}]}, "maintenance_policy: exactly one of"),
        (CLUSTER, {"remove_default_node_pool": True, "node_version": "1.35"}, "node_version can only be"),
        (GOOGLE["google_compute_security_policy"], {"rule": [{"priority": 1}, {"priority": 1}]}, "the same priority"),
        (GOOGLE["google_compute_ssl_policy"], {"profile": "CUSTOM"}, "custom_features are set if"),
        (GOOGLE["google_compute_firewall"], {"source_ranges": [], "allow": [{}]}, "is to have something in it"),
        (GOOGLE["google_compute_firewall"], {"source_ranges": ["10.0.0.0/8"]}, "exactly one of allow, deny"),
        (
            GOOGLE["google_artifact_registry_repository"],
            {"remote_repository_config": [{"description": "Docker Hub"}]},
            "remote_repository_config: exactly one of",
        ),
        (CLUSTER, {"location": "europe-west4-b", "node_locations": ["europe-west4-b"]}, "node_locations should not"),
    ],
)
def test_a_resource_that_the_provider_refuses_is_found(kind: Kind, values: dict[str, Any], wrong: str) -> None:
    assert any(wrong in refusal for refusal in refusals(kind, values))


def test_a_mocked_value_does_not_count_as_set() -> None:
    values = {"name": "a", "id": "mocked", "block": [{"b": 1, "c": "mocked"}], "labels": {"x": "y"}, "other": None}
    assert only(values, {"name", "block", "block.b", "labels"}) == {
        "name": "a",
        "block": [{"b": 1}],
        "labels": {"x": "y"},
    }
    assert unknown({"name": True, "block": [{"b": True}]}, "block.b")
    assert not unknown({"name": True, "block": [{"b": True}]}, "block")


TEXT = """
# resource "commented" "out" { name = "a" }
resource "kind" "this" {
  for_each = { a = 1 }
  name     = "${var.name == "x" ? "a" : "b"} # no comment, no } either" // one
  list = [
    { inner = 1 }, /* name = 2 */
  ]
  labels = { key = "value" }

  single { count = 1 }

  block {
    deep {
      text = <<-EOT
        other = 1
      EOT
    }
  }

  dynamic "made" {
    for_each = var.made
    iterator = each_of_them
    content {
      value = made.value
      dynamic "inner" {
        for_each = [1]
        content {
          x = f(
            1,
          )
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [name]
  }
}

data "source" "one" {
  id = local.id
}

locals { resource = 1 }
"""


def test_arguments_are_read_from_the_text() -> None:
    assert set_arguments(TEXT) == {
        "kind.this": {
            *("name", "list", "labels", "single", "single.count", "block", "block.deep", "block.deep.text"),
            *("made", "made.value", "made.inner", "made.inner.x"),
        },
        "data.source.one": {"id"},
    }
