"""Presets of the fields where networks are used, read from profiles/NAME.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from edgeprune.errors import EdgepruneError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one field wants; a field that is None leaves the choice to edgeprune.

    `objective` is one of options.OBJECTIVES, `max_drop` is in points of accuracy. `epochs` of recovery training
    count only where there is data to train on.
    """

    name: str
    description: str
    objective: str
    max_drop: float | None = None
    epochs: int | None = None
    threads: int | None = None

    def presets(self) -> dict[str, Any]:
        """The fields of `Options` that this profile sets; its limit counts as a wish of the user."""
        fields = {name: getattr(self, name) for name in ("objective", "max_drop", "epochs", "threads")}
        found = {name: value for name, value in fields.items() if value is not None}
        return found | ({} if self.max_drop is None else {"max_drop_given": True})


def profile_names() -> list[str]:
    """Every name that `load_profile` takes."""
    entries = resources.files("edgeprune.profiles").iterdir()
    return sorted(Path(entry.name).stem for entry in entries if entry.name.endswith(".toml"))


@cache
def _facts(name: str) -> Profile:
    text = (resources.files("edgeprune.profiles") / f"{name}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Profile)


def load_profile(name: str) -> Profile:
    """The presets of profile `name`.

    Raises EdgepruneError (profile-unknown, usage) with the nearest names.
    """
    if name not in profile_names():
        raise EdgepruneError(
            "profile-unknown",
            f"there is no profile '{name}'",
            where="--profile",
            hint=nearest(name, profile_names()),
            exit_code=2,
        )
    return _facts(name)


def with_profile(name: str | None, given: Mapping[str, Any], *, has_data: bool) -> dict[str, Any]:
    """Fields of `Options`: what is `given` wins over what profile `name` presets; `has_data` allows training.

    Raises EdgepruneError (profile-unknown, usage).
    """
    presets = {} if name is None else load_profile(name).presets()
    if not has_data:
        presets.pop("epochs", None)
    if "max_drop" in given:
        presets.pop("max_drop_given", None)
    return {**presets, **given}
