"""The version ranges begin with the tests' versions; terraform/README.md says whom they exclude."""

from __future__ import annotations

import re

import pytest

from tests.support.terraform import FOLDERS, OFFLINE
from tests.support.walks import CHECKOUT, section


def ranges(folder: str) -> dict[str, str]:
    text = (CHECKOUT / "terraform" / folder / "versions.tf").read_text()
    [core] = re.findall(r'required_version = "(.*)"', text)
    return dict(re.findall(r'source  = "(.*)"\n +version = "(.*)"', text)) | {"Terraform": core}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_page_names_each_range(folder: str) -> None:
    rows = dict(
        re.findall(r"^\| (\S+) \| `(.*?)` \|", section(CHECKOUT / "terraform" / "README.md", "Versions"), re.MULTILINE)
    )
    assert ranges(folder).items() <= rows.items()


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_range_begins_with_the_version_whose_schemas_the_tests_use(folder: str) -> None:
    known = {
        f"hashicorp/{name}": version
        for file in (OFFLINE / "schemas").glob("*.json.gz")
        for name, version in re.findall(r"^(.+)-(\d+\.\d+)\.\d+\.json\.gz$", file.name)
    }
    if not known:
        pytest.skip("there are no stand-ins for providers, which name their versions: TERRAFORM_OFFLINE")
    for provider, wanted in ranges(folder).items():
        assert provider == "Terraform" or wanted == f"~> {known[provider]}", provider
