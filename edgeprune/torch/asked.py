"""What a user asks of a Pruner, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.pattern import Pattern, parse_pattern
from edgeprune.torch.layers import Layer
from edgeprune.torch.levels import Rule, check_rule
from edgeprune.torch.schedule import Schedule


@dataclass(frozen=True)
class Wanted:
    """The layers to prune, the sparsity of all of them together, and how it is shared out."""

    layers: tuple[Layer, ...]
    sparsity: float
    levels: Rule | Mapping[str, float]


def asked_pattern(pattern: str | Pattern) -> Pattern:
    """The pattern; raises EdgepruneError (pattern-unknown, pattern-unsupported) where no single layer can have it."""
    parsed = parse_pattern(pattern) if isinstance(pattern, str) else pattern
    if parsed.structure in ("head", "layer"):
        raise EdgepruneError(
            "pattern-unsupported",
            f"pattern '{parsed}' removes what several modules share, which a Pruner does not see",
            where="pattern",
            hint=f"train with a pattern of blocks, or cut the trained model: edgeprune prune --pattern {parsed}",
            exit_code=2,
        )
    return parsed


def asked_levels(
    pattern: Pattern, sparsity: float | None, levels: str | Mapping[str, float], layers: Sequence[Layer]
) -> Wanted:
    """The levels of `layers`; a mapping from names to sparsities leaves all others dense.

    Raises EdgepruneError (option-range, option-conflict, option-unknown, sparsity-missing, layer-unknown).
    """
    if sparsity is not None:
        _check_share(sparsity, "sparsity")
        _check_balance(pattern, sparsity, "sparsity")
    if isinstance(levels, Mapping):
        return _mapped(pattern, sparsity, levels, layers)
    rule = check_rule(levels)
    if pattern.density is not None:
        return Wanted(tuple(layers), 1 - pattern.density, rule)
    if sparsity is None:
        raise EdgepruneError(
            "sparsity-missing",
            f"pattern {pattern} leaves open how much goes",
            where="sparsity",
            hint="give the share of weights that goes, such as sparsity=0.75",
            exit_code=2,
        )
    return Wanted(tuple(layers), sparsity, rule)


def asked_steps(steps: int | None, schedule: Schedule) -> int:
    """The number of steps, 0 for no end; raises EdgepruneError (steps-missing, option-range)."""
    if steps is None and schedule.in_training:
        raise EdgepruneError(
            "steps-missing",
            f"schedule '{schedule.name}' needs the number of training steps",
            where="steps",
            hint="give steps=epochs * batches per epoch",
            exit_code=2,
        )
    if steps is not None and steps < 1:
        raise EdgepruneError(
            "option-range", f"{steps} is out of range", where="steps", hint="give 1 or more", exit_code=2
        )
    return 0 if steps is None else steps


def _mapped(pattern: Pattern, sparsity: float | None, levels: Mapping[str, float], layers: Sequence[Layer]) -> Wanted:
    known = {layer.name: layer for layer in layers}
    if sparsity is not None and pattern.density is None:
        raise EdgepruneError(
            "option-conflict",
            "levels names a sparsity for each layer, and sparsity one for all",
            where="levels",
            hint="drop one of them",
            exit_code=2,
        )
    for name, share in levels.items():
        if name not in known:
            raise EdgepruneError(
                "layer-unknown",
                f"the model has no layer '{name}' that can be pruned",
                where="levels",
                hint=nearest(name, known),
                exit_code=2,
            )
        _check_share(share, f"levels['{name}']")
        _check_balance(pattern, share, f"levels['{name}']")
    chosen = tuple(layer for layer in layers if layer.name in levels)
    sizes = {layer.name: layer.weight.numel() for layer in chosen}
    if not chosen:
        raise EdgepruneError(
            "layer-missing", "levels names no layer", where="levels", hint=nearest("", known), exit_code=2
        )
    together = sum(levels[name] * size for name, size in sizes.items()) / sum(sizes.values())
    return Wanted(chosen, together, {name: 1 - levels[name] for name in sizes})


def _check_share(share: float, where: str) -> None:
    if not 0 <= share < 1:
        hint = "give the removed share as 0 <= F < 1, such as 0.75"
        raise EdgepruneError("option-range", f"{share:g} is out of range", where=where, hint=hint, exit_code=2)


def _check_balance(pattern: Pattern, share: float, where: str) -> None:
    if pattern.density is not None and not math.isclose(1 - pattern.density, share):
        raise EdgepruneError(
            "option-conflict",
            f"pattern {pattern} removes {1 - pattern.density:g} of the weights, {where} asks for {share:g}",
            where=where,
            hint=f"leave it out: {pattern} fixes the level",
            exit_code=2,
        )
