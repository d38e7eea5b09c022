"""The one exception type of the project: what went wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHORTEST_PART = 3
_MOST_CLOSE = 6


class EdgepruneError(Exception):
    """A failure a user can act on; the command line alone prints it.

    `code` is a stable lower-case word pair such as "model-corrupt"; `what` says what is wrong; `where` names
    the file, node or field; `hint` says what to do. `exit_code` is 1 (failed) or 2 (wrong usage) or 3 (a budget
    or accuracy limit cannot be met).
    """

    def __init__(self, code: str, what: str, *, where: str = "", hint: str = "", exit_code: int = 1) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.where = where
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        lines = [f"{self.what} [{self.code}]"]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.hint:
            lines.append(f"  hint:  {self.hint}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """The error as the fields that `--json` prints."""
        return {"code": self.code, "what": self.what, "where": self.where, "hint": self.hint}


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint sentence that names the closest of `known`, or lists them all when none is close.

    Where none is spelled alike, those that `name` is a part of are close.
    """
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if not close and len(name) >= _SHORTEST_PART:
        close = [option for option in options if name.lower() in option.lower()][:_MOST_CLOSE]
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known names: " + ", ".join(options)
