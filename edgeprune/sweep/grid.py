"""What a sweep is made of: models x targets x budgets x varied options, expanded to jobs."""

from __future__ import annotations

import math
import os
import sys
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.options import Options, parse_bytes
from edgeprune.profile import with_profile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_JOBS = 100_000

_FIELDS = {name: kind for name, kind in get_type_hints(Options).items() if name != "max_drop_given"} | {"profile": str}
_BYTES = ("size", "ram")


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model with what is needed to read it, and its own data card and states (`IN=OUT`) if it has such."""

    path: str
    data: str | None = None
    arch: str | None = None
    dimensions: dict[str, int] = {}
    states: tuple[str, ...] = ()


class Sweep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sweep as its file says it; paths are relative to the folder of the file.

    `options` are the fields of `Options` (and `profile`) of every job, `vary` lists values to be combined with each
    other, and each of `budgets` is a set of fields. `board` is where packages are measured; "" measures nothing.
    `seconds` is how long each is measured.
    """

    models: tuple[str | ModelEntry, ...]
    targets: tuple[str, ...] = ("host",)
    data: str | None = None
    board: str = "local"
    seconds: float = 2.0
    options: dict[str, Any] = {}
    vary: dict[str, list[Any]] = {}
    budgets: tuple[dict[str, Any], ...] = ({},)


class Job(msgspec.Struct, frozen=True):
    """One model for one target with one set of options; `board` measures it for `seconds`, "" does not."""

    model: str
    target: str
    data: str | None = None
    arch: str | None = None
    dimensions: dict[str, int] = {}
    board: str = "local"
    seconds: float = 2.0
    options: dict[str, Any] = {}

    def choices(self) -> Options:
        """The options of the road. Raises EdgepruneError (option-range, option-conflict, ..., usage)."""
        fields = dict(self.options)
        profile = fields.pop("profile", None)
        if "max_drop" in fields:
            fields["max_drop_given"] = True
        return Options(**with_profile(profile, fields, has_data=self.data is not None))


def read_sweep(path: Path) -> Sweep:
    """The sweep that the TOML file `path` describes. Raises EdgepruneError (file-missing; sweep-invalid, usage)."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(content, Sweep)
    except FileNotFoundError:
        raise EdgepruneError("file-missing", f"there is no file {path}", where="SWEEP", hint="check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        hint = "it has models, targets, data, board, seconds, [options], [vary] and [[budgets]]"
        raise _invalid(str(path), str(error), hint) from error


def expand(sweep: Sweep, folder: Path) -> tuple[Job, ...]:
    """Every job once, in the order models, targets, budgets, varied options; paths become absolute under `folder`.

    Raises EdgepruneError (sweep-invalid, option-unknown, option-range; usage).
    """
    _check(sweep)
    names = list(sweep.vary)
    jobs = []
    for entry, target, budget in product(map(_entry, sweep.models), sweep.targets, sweep.budgets):
        for values in product(*sweep.vary.values()):
            data = entry.data or sweep.data
            own = {"states": entry.states} if entry.states else {}
            chosen = {**sweep.options, **budget, **own, **dict(zip(names, values, strict=True))}
            job = Job(
                model=_absolute(entry.path, folder),
                target=target,
                data=None if data is None else _absolute(data, folder),
                arch=None if entry.arch is None else _absolute(entry.arch, folder),
                dimensions=entry.dimensions,
                board=sweep.board,
                seconds=sweep.seconds,
                options={name: _value(name, value) for name, value in chosen.items()},
            )
            jobs.append(job)
    return _distinct(jobs)


def _check(sweep: Sweep) -> None:
    if not (sweep.models and sweep.targets and sweep.budgets):
        hint = "give at least one model, one target, and no empty list"
        raise _invalid("models, targets, budgets", "the sweep has no job", hint)
    if not (math.isfinite(sweep.seconds) and sweep.seconds > 0):
        raise _invalid("seconds", f"{sweep.seconds:g} is out of range", "give a number above 0")
    in_budgets = [name for budget in sweep.budgets for name in budget]
    for name in [*sweep.options, *sweep.vary, *in_budgets]:
        if name not in _FIELDS:
            hint = nearest(name, _FIELDS)
            raise EdgepruneError(
                "option-unknown", f"there is no option '{name}'", where="sweep", hint=hint, exit_code=2
            )
    for name, values in sweep.vary.items():
        if name in sweep.options or name in in_budgets:
            raise _invalid("vary", f"'{name}' is given twice", "keep it in one of options, vary and budgets")
        if not values:
            raise _invalid("vary", f"'{name}' has no value", "list at least one")
    count = math.prod([len(sweep.models), len(sweep.targets), len(sweep.budgets), *map(len, sweep.vary.values())])
    if count > MOST_JOBS:
        raise _invalid("sweep", f"{count:,} jobs are more than the {MOST_JOBS:,} allowed", "vary less")


def _value(name: str, value: Any) -> Any:
    if name in _BYTES and isinstance(value, str):
        return float(parse_bytes(value, where=name))
    try:
        return msgspec.convert(value, _FIELDS[name])
    except msgspec.ValidationError as error:
        raise _invalid(name, str(error), f"give the option {name} a value of its type") from error


def _entry(model: str | ModelEntry) -> ModelEntry:
    return ModelEntry(model) if isinstance(model, str) else model


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder.absolute() / Path(path).expanduser())


def _distinct(jobs: list[Job]) -> tuple[Job, ...]:
    return tuple({msgspec.json.encode(job, order="deterministic"): job for job in jobs}.values())


def _invalid(where: str, what: str, hint: str) -> EdgepruneError:
    return EdgepruneError("sweep-invalid", what, where=where, hint=hint, exit_code=2)
