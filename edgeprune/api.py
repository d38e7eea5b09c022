"""The verbs as Python functions: what `edgeprune.compile` and `edgeprune.prune` are."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from edgeprune import flow
from edgeprune.compiled import Package
from edgeprune.errors import EdgepruneError
from edgeprune.options import Options
from edgeprune.profile import with_profile
from edgeprune.progress import Progress, silent

if TYPE_CHECKING:
    import onnx_ir as ir


def compile(
    model: str | PathLike[str] | ir.Model,
    *,
    target: str = "host",
    data: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    progress: Progress = silent,
    **choices: Any,
) -> Package:
    """Take `model` the whole road to a package for `target`; `choices` are the fields of `Options`, or a `profile`.

    Raises EdgepruneError: limit-not-met where a budget or the accuracy limit is missed and `best_effort` is not
    set, else what the stages raise.
    """
    options = _options(choices, data)
    result = flow.compile(model, target=target, data=data, output=output, options=options, progress=progress)
    if result.package is None:
        raise _not_met(result.shortfall)
    return result.package


def prune(
    model: str | PathLike[str] | ir.Model,
    *,
    target: str = "host",
    data: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    progress: Progress = silent,
    **choices: Any,
) -> ir.Model:
    """Prune `model` for `target` and return the pruned ONNX model; `choices` as for `compile`.

    Raises EdgepruneError as `compile` does.
    """
    options = _options(choices, data)
    result = flow.prune(model, target=target, data=data, output=output, options=options, progress=progress)
    if not result.met and not options.best_effort:
        raise _not_met(result.shortfall)
    return result.model


def advise(
    model: str | PathLike[str] | ir.Model, *, target: str = "host", threads: int = 1, progress: Progress = silent
) -> dict[str, Any]:
    """Which layers pruning makes faster on `target`: the fields of `edgeprune advise --json`."""
    return flow.advise(model, target=target, threads=threads, progress=progress)


def _options(choices: Mapping[str, Any], data: str | PathLike[str] | None) -> Options:
    """The options that `choices` ask for; a `profile` among them presets what is not given."""
    given = {name: value for name, value in choices.items() if name != "profile"}
    if "max_drop" in given:
        given.setdefault("max_drop_given", True)
    return Options(**with_profile(choices.get("profile"), given, has_data=data is not None))


def _not_met(shortfall: str) -> EdgepruneError:
    return EdgepruneError(
        "limit-not-met",
        shortfall,
        where="what was asked of the result",
        hint="allow more (max_drop, latency, size), or take what there is with best_effort=True",
        exit_code=3,
    )
