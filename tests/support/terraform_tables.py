"""terraform/VARIABLES.md, of what the folders' variables.tf and outputs.tf say. To write it anew:

python -m tests.support.terraform_tables
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDERS = ("state", "cluster", "kserve")
PAGE = CHECKOUT / "terraform" / "VARIABLES.md"

HEAD = """# Variables and outputs

Of `terraform/state`, `cluster` and `kserve`: written by `.venv/bin/python -m tests.support.terraform_tables` from their
`variables.tf` and `outputs.tf`, and held to them by a test. What has no default must be given; a type that is too long
for its row stands below the table.
"""


def block(text: str, kind: str) -> list[tuple[str, str]]:
    """Name and body of each block, in files as `terraform fmt` writes them: the brace that ends one begins a line."""
    return re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}$', text, re.MULTILINE | re.DOTALL)


def argument(body: str, name: str) -> str | None:
    """What an argument of a block is set to, as it stands there without its indentation; None where it is not set."""
    found = re.search(rf"^  {name} += (.*?)(?=^\n?  (?:\w+ +[={{]|\w+ {{|#)|\Z)", body, re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    first, _, rest = found[1].rstrip().partition("\n")
    return "\n".join([first, textwrap.dedent(rest)]).rstrip() if rest else first


def sentence(value: str) -> str:
    """A description, which is a string or a heredoc, on one line and safe in a cell."""
    text = re.sub(r"^<<-?EOT\n(.*)\n *EOT$", r"\1", value, flags=re.DOTALL)
    if text == value:
        text = value.strip('"').replace('\\"', '"')
    return " ".join(text.split()).replace("|", "\\|")


def code(value: str) -> str:
    return f"`{value}`".replace("|", "\\|")


def variables(folder: str) -> str:
    rows = ["| variable | type | default | |", "|---|---|---|---|"]
    below: list[tuple[str, str, str | None]] = []
    for name, body in block((CHECKOUT / "terraform" / folder / "variables.tf").read_text(), "variable"):
        kind, default = argument(body, "type") or "any", argument(body, "default")
        shown = "" if default is None else code(default)
        if "\n" in kind or "\n" in (default or ""):
            below.append((name, kind, default))
        kind = f"[below](#{folder}-{name})" if "\n" in kind else code(kind)
        if "\n" in shown:
            shown = f"[below](#{folder}-{name})"
        rows.append(f"| `{name}` | {kind} | {shown} | {sentence(argument(body, 'description') or '')} |")
    text = "\n".join(rows) + "\n"
    for name, kind, default in below:
        text += f'\n<a id="{folder}-{name}"></a>`{name}`:\n\n```hcl\n{kind}\n'
        text += f"default = {default}\n```\n" if "\n" in (default or "") else "```\n"
    return text


def outputs(folder: str) -> str:
    found = block((CHECKOUT / "terraform" / folder / "outputs.tf").read_text(), "output")
    rows = [f"| `{name}` | {sentence(argument(body, 'description') or '')} |" for name, body in found]
    return "\n".join(["| output | |", "|---|---|", *rows]) + "\n"


def page() -> str:
    return HEAD + "".join(f"\n## {folder}\n\n{variables(folder)}\n{outputs(folder)}" for folder in FOLDERS)


if __name__ == "__main__":
    PAGE.write_text(page())
