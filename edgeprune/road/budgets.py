"""Whether the user's limits are met, and by how much they are missed."""

from __future__ import annotations

from edgeprune.errors import EdgepruneError
from edgeprune.options import Options


def check_supported(options: Options) -> None:
    """Refuse what no stage does yet.

    Raises EdgepruneError: precision-unsupported, backend-unsupported, budget-unsupported (usage).
    """
    if options.precision not in ("auto", "fp32"):
        raise _unsupported("precision", f"--precision {options.precision}", "this version compiles fp32: leave it out")
    if options.backend != "tvm":
        raise _unsupported("backend", f"--backend {options.backend}", "this version lowers through TVM: leave it out")
    if options.energy is not None:
        raise _unsupported("budget", "--energy", "this version has no energy model; give --latency, --size or --ram")


def accuracy_shortfall(options: Options, drop: float | None, chosen_by_hand: bool) -> str:
    """What is missing of the accuracy limit, or nothing.

    A level that the user set by hand is held to the limit only where the user set that too.
    """
    if drop is None or (chosen_by_hand and not options.max_drop_given) or drop <= options.max_drop + 1e-9:
        return ""
    return (
        f"accuracy drops by {drop:.2f} points, {drop - options.max_drop:.2f} more than the {options.max_drop:g} allowed"
    )


def size_shortfall(options: Options, total_bytes: int, ram_bytes: int) -> str:
    """What is missing of the size and memory budgets, or nothing."""
    missed = []
    for name, budget, need in (("size", options.size, total_bytes), ("ram", options.ram, ram_bytes)):
        if budget is not None and need > budget:
            missed.append(f"{name} is {need:,} bytes, {need - budget:,.0f} over the budget of {budget:,.0f}")
    return "; ".join(missed)


def latency_shortfall(options: Options, median_ms: float) -> str:
    """What is missing of the latency budget, or nothing."""
    if options.latency is None or median_ms <= options.latency:
        return ""
    over = median_ms - options.latency
    return f"latency is {median_ms:.3f} ms (measured), {over:.3f} ms over the budget of {options.latency:g}"


def _unsupported(kind: str, name: str, hint: str) -> EdgepruneError:
    return EdgepruneError(f"{kind}-unsupported", f"{name} is not supported yet", where=name, hint=hint, exit_code=2)
