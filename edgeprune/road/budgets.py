"""Whether the user's limits are met, and by how much they are missed."""

from __future__ import annotations

from collections.abc import Mapping

from edgeprune.errors import EdgepruneError
from edgeprune.options import Options
from edgeprune.target import Target, load_target, target_names


def check_supported(options: Options, target: Target) -> None:
    """Refuse what no stage does yet, or not for `target`.

    Raises EdgepruneError: precision-unsupported, backend-unsupported (usage).
    """
    if options.precision == "fp16" and not target.half:
        able = [name for name in target_names() if name != "host" and load_target(name).half]
        what = f"{target.name} has no arithmetic of half precision"
        hint = f"take auto, fp32 or int8, or a target that has it: {', '.join(able)}"
        raise EdgepruneError("precision-unsupported", what, where="--precision fp16", hint=hint, exit_code=2)
    if options.backend != "tvm":
        name, hint = f"--backend {options.backend}", "take tvm, which lowers for every target"
        what = f"{name} is not supported yet"
        raise EdgepruneError("backend-unsupported", what, where=name, hint=hint, exit_code=2)


def has_budget(options: Options) -> bool:
    """Whether the user gave a budget that pruning should meet."""
    return any(limit is not None for limit in (options.latency, options.size, options.ram, options.energy))


def accuracy_shortfall(options: Options, drop: float | None, chosen_by_hand: bool) -> str:
    """What is missing of the accuracy limit, or nothing.

    A level that the user set by hand is held to the limit only where the user set that too.
    """
    if drop is None or (chosen_by_hand and not options.max_drop_given) or drop <= options.max_drop + 1e-9:
        return ""
    return (
        f"accuracy drops by {drop:.2f} points, {drop - options.max_drop:.2f} more than the {options.max_drop:g} allowed"
    )


def shortfalls(options: Options, drop: float | None, chosen_by_hand: bool, figures: Mapping[str, float]) -> str:
    """What is missing of every limit, or nothing; `figures` in microseconds, bytes and millijoules, where known."""
    missed = [
        accuracy_shortfall(options, drop, chosen_by_hand),
        _bytes_shortfall("size", options.size, figures),
        _bytes_shortfall("ram", options.ram, figures),
        _energy_shortfall(options.energy, figures),
        _latency_shortfall(options.latency, figures),
    ]
    return "; ".join(part for part in missed if part)


def _bytes_shortfall(name: str, budget: float | None, figures: Mapping[str, float]) -> str:
    need = figures.get(name, 0.0)
    if budget is None or need <= budget:
        return ""
    return f"{name} is {need:,.0f} bytes, {need - budget:,.0f} over the budget of {budget:,.0f}"


def _energy_shortfall(budget: float | None, figures: Mapping[str, float]) -> str:
    need = figures.get("energy", 0.0)
    if budget is None or need <= budget:
        return ""
    return f"energy is {need:.4g} mJ (predicted), {need - budget:.4g} mJ over the budget of {budget:g}"


def _latency_shortfall(budget: float | None, figures: Mapping[str, float]) -> str:
    need, kind = figures.get("latency", 0.0) / 1000.0, "measured"
    if "latency" not in figures:
        need, kind = figures.get("predicted_latency", 0.0) / 1000.0, "predicted"
        if "latency_spread" in figures:
            kind = f"predicted, within a factor {figures['latency_spread']:g}"
    if budget is None or need <= budget:
        return ""
    return f"latency is {need:.3f} ms ({kind}), {need - budget:.3f} ms over the budget of {budget:g}"
