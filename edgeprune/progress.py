"""How long work says how far it is, without printing."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Called as (label, done, total, note): `done` of `total` units of the step `label` are finished.

`total` 0 means that the length is not known; `note` is a short free text such as a loss. A step has ended once
`done` equals `total`.
"""


def silent(label: str, done: int, total: int, note: str = "") -> None:
    """The Progress that says nothing."""
