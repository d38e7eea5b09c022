"""Advice before any work: which layers pruning makes faster on a target, from which sparsity on, and why others not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from edgeprune.errors import EdgepruneError
from edgeprune.ir.cost import model_cost
from edgeprune.ir.weights import WeightedLayer, read_weight, weighted_layers
from edgeprune.mask import coarsest_fit
from edgeprune.pattern import Pattern, parse_pattern
from edgeprune.progress import Progress, silent
from edgeprune.road.costing import costs_for
from edgeprune.road.inspecting import is_package
from edgeprune.road.writing import Writer
from edgeprune.search.costs import CostTable, LayerCost
from edgeprune.search.levels import global_levels, prunable_layers
from edgeprune.target import Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeprune.ir.cost import LayerCost as LayerWork

SPARSITIES = (0.5, 0.75, 0.875)
"""The levels that speedups are given for."""

PAYS = 1.03
"""A layer is called faster where it is this much faster than dense."""

_PLAIN = Writer()
_STEPS = tuple(step / 20 for step in range(1, 20))
_SMALL_SHARE = 0.002
_QUANTIZED = "its weights arrive quantized: only float weights are pruned"


@dataclass(frozen=True)
class _Advised:
    """What is asked of one layer: its rows by pattern, and microseconds as it is."""

    name: str
    rows: dict[str, LayerCost]
    dense_us: float | None


def advise_model(
    model: ir.Model,
    target: Target,
    *,
    threads: int = 1,
    seed: int = 0,
    write: Writer = _PLAIN,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The JSON of `edgeprune advise`.

    `target, kind, basis, threads, dense_ms, levels [{pattern, sparsity, latency_ms, speedup}], layers [{name, op, macs,
    time_us, share, pattern, pays_from, speedup {"0.5", "0.75", "0.875"}, verdict ("prune" | "keep"), reason}]`.
    Raises EdgepruneError as `lower` does.
    """
    table = costs_for(model, target, threads=threads, seed=seed, write=write, progress=progress)
    layers = {layer.name: layer for layer in weighted_layers(model)}
    cut = {layer.name for layer in prunable_layers(model)}
    stored = _stored_quantized(model)
    rows = [
        _layer(work, layers.get(work.name), table, target, work.name in cut, work.name in stored)
        for work in model_cost(model).layers
    ]
    return {
        "target": target.name,
        "kind": table.kind,
        "basis": table.basis,
        "threads": threads,
        "dense_ms": table.dense_us / 1000,
        "levels": _levels(model, target, table),
        "layers": rows,
    }


def require_model(model: object) -> None:
    """Refuse a package: advice is about what is not compiled yet. Raises EdgepruneError (model-wanted, usage)."""
    if isinstance(model, (str, PathLike)) and is_package(model):
        raise EdgepruneError(
            "model-wanted",
            f"{model} is a package: it is pruned and compiled already",
            where="MODEL",
            hint="name the model that it came from; `edgeprune inspect` says what a package has inside",
            exit_code=2,
        )


def _levels(model: ir.Model, target: Target, table: CostTable) -> list[dict[str, Any]]:
    """The whole model at every level, in every pattern, with the shares that `compile --sparsity` gives each layer."""
    found = []
    for text in target.patterns:
        pattern = parse_pattern(text)
        fixed = pattern.density
        for sparsity in SPARSITIES if fixed is None else (1 - fixed,):
            levels = global_levels(model, pattern, sparsity)
            time = table.total({name: level for name, level in levels.items() if name in table.layers})
            found.append(
                {
                    "pattern": text,
                    "sparsity": sparsity,
                    "latency_ms": time / 1000,
                    "speedup": table.dense_us / time,
                }
            )
    return found


def _layer(
    work: LayerWork, layer: WeightedLayer | None, table: CostTable, target: Target, cut: bool, stored: bool
) -> dict[str, Any]:
    advised = _advised(work.name, table)
    pattern = _best_pattern(advised)
    pays_from = None if pattern is None else _pays_from(advised, pattern)
    reason = _QUANTIZED if stored else _reason(advised, layer, table, target, cut, pays_from)
    time = advised.dense_us
    return {
        "name": work.name,
        "op": work.op,
        "macs": work.dense_macs,
        "time_us": time,
        "share": None if time is None else time / table.dense_us,
        "pattern": pattern or "",
        "pays_from": pays_from,
        "speedup": {} if pattern is None else {f"{s:g}": _speedup(advised, pattern, s) for s in SPARSITIES},
        "verdict": "keep" if reason else "prune",
        "reason": reason,
    }


def _stored_quantized(model: ir.Model) -> set[str]:
    """The nodes whose weight is an integer constant that is scaled first."""
    found = set()
    for node in model.graph:
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        producer = None if weight is None else weight.producer()
        if producer is not None and producer.op_type == "DequantizeLinear" and node.name:
            stored = producer.inputs[0]
            found |= {node.name} if stored is not None and stored.const_value is not None else set()
    return found


def _advised(name: str, table: CostTable) -> _Advised:
    """The rows of a layer in the view where layers are in the layout that is faster for each."""
    channels, view = table.layouts[0], table.layouts[-1]
    if name in channels.dense:
        return _Advised(name, dict(view.layers.get(name, {})), channels.time_us(name))
    other = table.others.get(name)
    return _Advised(name, {}, None if other is None else other[0])


def _best_pattern(advised: _Advised) -> str | None:
    """The pattern with the lowest time over the levels; of equals the finest, which loses least accuracy."""
    if not advised.rows:
        return None
    return min(advised.rows, key=lambda pattern: sum(_time(advised, pattern, s) for s in SPARSITIES))


def _time(advised: _Advised, pattern: str, sparsity: float) -> float:
    row = advised.rows[pattern]
    return min(row.at(1 - sparsity), advised.dense_us or 0.0)


def _speedup(advised: _Advised, pattern: str, sparsity: float) -> float:
    return (advised.dense_us or 0.0) / max(_time(advised, pattern, sparsity), 1e-6)


def _pays_from(advised: _Advised, pattern: str) -> float | None:
    """The first sparsity, in steps of 0.05, from which on the layer is faster than dense."""
    found = None
    for sparsity in reversed(_STEPS):
        if _speedup(advised, pattern, sparsity) <= PAYS:
            break
        found = sparsity
    return found


def _reason(
    advised: _Advised,
    layer: WeightedLayer | None,
    table: CostTable,
    target: Target,
    cut: bool,
    pays_from: float | None,
) -> str:
    """Why a layer is better kept dense; nothing where pruning it pays."""
    if layer is None:
        return "no constant weight that could be pruned, or an op whose weights stay dense"
    if layer.kind == "depthwise":
        return "depthwise: stays dense, each weight serves one channel only"
    if not advised.rows:
        return "computed by a general kernel that does not skip zeros"
    if pays_from is None:
        return _why_not_faster(layer, target)
    if not cut:
        return "first or last layer with little work: compile keeps it dense"
    share = (advised.dense_us or 0.0) / table.dense_us
    if share < _SMALL_SHARE:
        return f"takes {100 * share:.1f} % of the time: nothing to win"
    return _foreign_zeros(layer, target)


def _why_not_faster(layer: WeightedLayer, target: Target) -> str:
    outputs = read_weight(layer).shape[-1]
    blocks = [pattern.block_n for pattern in _patterns(target.patterns) if pattern.block_n > 1]
    if blocks and outputs < min(blocks):
        return f"too few channels: {outputs} outputs, and the smallest block is {min(blocks)} wide"
    return "bound by memory and calls, not by arithmetic: its time hardly falls"


def _foreign_zeros(layer: WeightedLayer, target: Target) -> str:
    """That a layer arrives sparse in a pattern that the target has no kernel for."""
    weight = read_weight(layer)
    zeros = float((weight == 0).mean())
    if zeros < 0.1 or coarsest_fit(weight, _patterns(target.patterns)) is not None:
        return ""
    return f"its {100 * zeros:.0f} % zeros fit no pattern of the target ({', '.join(target.patterns)})"


def _patterns(texts: Sequence[str]) -> tuple[Pattern, ...]:
    return tuple(pattern for pattern in map(parse_pattern, texts) if pattern.structure == "block")
