"""Which classes of a jar can be reached from others, by the names in their constant pools.

Classes that are only looked up by name, such as plugins (Class.forName), are not seen: name them as roots.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

# The size of each entry of a constant pool, by its tag: Java's virtual machine specification, 4.4.
SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
TEXT, LONG, DOUBLE, CLASS = 1, 5, 6, 7


def names_in(content: bytes) -> set[str]:
    """The classes that a class file names: those that it uses, extends or has in a signature."""
    (count,) = struct.unpack_from(">H", content, 8)
    texts: dict[int, bytes] = {}
    classes = []
    at, index = 10, 1
    while index < count:
        tag = content[at]
        if tag == TEXT:
            (length,) = struct.unpack_from(">H", content, at + 1)
            texts[index] = content[at + 3 : at + 3 + length]
            at += 3 + length
        else:
            if tag == CLASS:
                classes.append(struct.unpack_from(">H", content, at + 1)[0])
            at += 1 + SIZES[tag]
        index += 2 if tag in (LONG, DOUBLE) else 1
    return {texts[each].decode(errors="replace").lstrip("[").removeprefix("L").rstrip(";") for each in classes}


class ClassGraph:
    """The class graph of some jars. If two have a class of the same name, the later one counts."""

    def __init__(self, *jars: Path) -> None:
        self._named: dict[str, set[str]] = {}
        for jar in jars:
            with zipfile.ZipFile(jar) as opened:
                self._named |= {
                    name.removesuffix(".class"): names_in(opened.read(name))
                    for name in opened.namelist()
                    if name.endswith(".class") and not name.endswith("module-info.class")
                }

    def behind(self, other: ClassGraph) -> ClassGraph:
        """As Java sees both, where the other comes first on its class path."""
        both = ClassGraph()
        both._named = self._named | other._named
        return both

    def beginning_with(self, *beginnings: str) -> set[str]:
        return {name for name in self._named if name.startswith(beginnings)}

    def reached_from(self, roots: Iterable[str]) -> set[str]:
        """The roots and everything reachable from them, including classes that are not in the jar (Java's own)."""
        found: set[str] = set()
        waiting = list(roots)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._named.get(name, ())
        return found
