"""Which arguments a Terraform file sets: their names, without their values."""

from __future__ import annotations

import re
from collections.abc import Iterator

TOKEN = re.compile(
    r"""
    (?P<skip>[ \t]+ | \#[^\n]* | //[^\n]* | /\*.*?\*/)
  | (?P<text><<-?(?P<end>\w+)\n.*?\n[ \t]*(?P=end)\b | "(?:\$\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\} | \\. | [^"\\])*")
  | (?P<name>[A-Za-z_][\w-]*)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)

# Accepted by every resource, whatever its provider: https://developer.hashicorp.com/terraform/language/resources
META = {"count", "depends_on", "for_each", "lifecycle", "provider", "provisioner", "timeouts"}

Arguments = dict[str, set[str]]


class Reader:
    """Goes through the tokens once: `name = …` is an argument, `name "label" { … }` a block."""

    def __init__(self, text: str) -> None:
        self.tokens = [found for found in TOKEN.finditer(text) if found.lastgroup != "skip"]
        self.at = 0

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][0]

    def skip_expression(self) -> None:
        """Skips to the end of the line; within brackets, lines continue."""
        depth = 0
        while self.at < len(self.tokens):
            sign = self.tokens[self.at][0]
            if depth == 0 and sign in ("\n", "}"):
                return
            depth += (sign in ("(", "[", "{")) - (sign in (")", "]", "}"))
            self.at += 1

    def body(self) -> Iterator[tuple[list[str], set[str] | None]]:
        """For each entry: its words and, for a block, the paths that are set in it."""
        while self.at < len(self.tokens):
            words = [self.take().strip('"')]
            if words == ["}"]:
                return
            if words == ["\n"]:
                continue
            while (word := self.take()) not in ("=", "{"):
                words.append(word.strip('"'))
            if word == "=":
                self.skip_expression()
                yield words, None
            else:
                yield words, self.paths()

    def paths(self) -> set[str]:
        """The paths in a block: `autoscaling`, `autoscaling.max_node_count`, …"""
        found: set[str] = set()
        for words, inner in self.body():
            if words[0] == "dynamic" and inner is not None:
                words = [words[1]]
                inner = {path.removeprefix("content.") for path in inner if path.startswith("content.")}
            found |= {words[0], *(f"{words[0]}.{path}" for path in inner or ())}
        return found


def set_arguments(text: str) -> Arguments:
    """`google_storage_bucket.models` → the paths of its arguments and blocks; a data source has `data.` before it."""
    return {
        (".".join(words[1:]) if words[0] == "resource" else ".".join(words)): {
            path for path in inner if path.partition(".")[0] not in META
        }
        for words, inner in Reader(text).body()
        if words[0] in ("resource", "data") and inner is not None
    }
