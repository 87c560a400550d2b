"""terraform/VARIABLES.md matches the folders' variables and outputs."""

from __future__ import annotations

import re

import pytest

from tests.support.terraform_tables import CHECKOUT, FOLDERS, PAGE, argument, block, page, sentence


def test_the_tables_are_those_of_the_code() -> None:
    assert PAGE.read_text() == page(), "run .venv/bin/python -m tests.support.terraform_tables"


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_left_out(folder: str) -> None:
    found = re.search(rf"^## {folder}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    text = "\n".join(path.read_text() for path in (CHECKOUT / "terraform" / folder).glob("*.tf"))
    names = re.findall(r'^(?:variable|output) "(\w+)"', text, re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \|.*[.)] \|$", found[1], re.MULTILINE)
    assert sorted(rows) == sorted(names)


def test_a_block_is_read_verbatim() -> None:
    text = """variable "pools" {
  description = <<-EOT
    One | two,
    three.
  EOT
  type = map(object({
    size = optional(number, 1)
  }))
  default = {
    # A comment.
    one = { size = 1 }
  }
  nullable = false

  # Another.
  validation {
    condition = true
  }
}

variable "name" {
  description = "Said in \\"quotes\\"."
  type        = string
}
"""
    (_, pools), (name, other) = block(text, "variable")
    assert sentence(argument(pools, "description") or "") == "One \\| two, three."
    assert argument(pools, "type") == "map(object({\n  size = optional(number, 1)\n}))"
    assert argument(pools, "default") == "{\n  # A comment.\n  one = { size = 1 }\n}"
    assert argument(pools, "nullable") == "false"
    assert (name, sentence(argument(other, "description") or "")) == ("name", 'Said in "quotes".')
    assert argument(other, "default") is None
