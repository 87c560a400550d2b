"""How a run of deploy.sh ended, and whether its last line describes the result."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

ASKS_FOR = re.compile(r"in namespace \S+ this was requested, and the cluster is still working on it: .*--delete", re.S)


@dataclass
class End:
    """How a command ended. error: its line; None if all was well. wrote: whether it changed anything."""

    error: str | None = None
    interrupted: bool = False
    waited: list[str] = field(default_factory=list)
    wrote: bool = False
    warned: list[str] = field(default_factory=list)

    @property
    def names_the_state(self) -> bool:
        """Whether its last line says what is live, or how to continue."""
        if self.interrupted:
            last = self.warned[-1] if self.warned else ""
            return last.startswith("interrupted; ") and ("nothing was changed" in last or bool(ASKS_FOR.search(last)))
        if self.error is None or not self.wrote:
            return True
        ends = ("which is ready again", "left as it is (", "left in place: ", "failed as well: ", "nothing was changed")
        return any(end in self.error for end in ends) or bool(ASKS_FOR.search(self.error))
