"""The steps of a model in training, one or a few nodes each, and how a step runs on a batch of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir
import torch

from edgeprune.ir.trainable_clip import relu_in_place, span_of
from edgeprune.ir.trainable_node import Facts, Row, Tensor
from edgeprune.ir.trainable_ops import ELEMENTWISE, OPS, independent
from edgeprune.ir.trainable_quantization import TOGETHER, Grid, grid_of, on_grid, pairs_of

After = Callable[[str, Tensor], Tensor]
"""Called as after(output name, [rows, channels, ...]) with the result of a convolution; gives what replaces it.

What it is called with and what it gives may be overwritten later.
"""

_FRESH = ("Conv", "BatchNormalization", "Gemm", "Add")
"""Ops whose gradients do not depend on their results, which are memory of their own."""


@dataclass(frozen=True)
class Step:
    """One node, or a QuantizeLinear with what reads it, then with its `grid` and the number of readers.

    `elementwise` and `independent` say how much the op cares about where in a batch a row is. `last_uses` are the
    inputs that no later step reads.
    """

    row: Row
    facts: Facts
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    elementwise: bool
    independent: bool
    grid: Grid | None = None
    last_uses: tuple[str, ...] = ()


@dataclass
class Rows:
    """Values that rows differ in, by name: rows first, then the axes that the graph gives them.

    In `folded` the rows take the place of the first axis, which is 1 in the graph.
    """

    plain: dict[str, Tensor] = field(default_factory=dict)
    folded: dict[str, Tensor] = field(default_factory=dict)

    def __contains__(self, name: str | None) -> bool:
        return name in self.folded or name in self.plain

    def get(self, name: str) -> Tensor:
        """The value with all axes of the graph after the rows."""
        return self.folded[name].unsqueeze(1) if name in self.folded else self.plain[name]

    def put(self, name: str, value: Tensor) -> None:
        """Keep a `value` that has all axes of the graph after the rows."""
        if value.ndim > 1 and value.shape[1] == 1:
            self.folded[name] = value.squeeze(1)
        else:
            self.plain[name] = value

    def watch(self, name: str) -> Tensor:
        """As `get`; gradients of what follows pass what is given."""
        value = self.get(name)
        self.put(name, value)
        return value

    def drop(self, name: str) -> None:
        """Forget a value, where there is one."""
        self.folded.pop(name, None)
        self.plain.pop(name, None)


def steps_of(model: ir.Model, masters: Collection[ir.Node]) -> Iterator[Step]:
    """The steps of `model`; `masters` are the nodes that read float32 weights in place of integers."""
    nodes = list(model.graph)
    pairs = pairs_of(nodes)
    undone = {reader for readers in pairs.values() for reader in readers}
    for node in nodes:
        if node in undone:
            continue
        facts = Facts(node)
        row, ends, grid = _row(facts, node, masters), pairs.get(node, [node]), None
        if node in pairs:
            row, grid = on_grid(facts, copies=len(ends)), grid_of(facts)
        inputs = tuple(None if value is None else str(value.name) for value in node.inputs)
        outputs = tuple(str(value.name) for end in ends for value in end.outputs)
        yield Step(row, facts, inputs, outputs, facts.op in ELEMENTWISE, independent(facts), grid)


def planned(steps: Sequence[Step], kept: Collection[str]) -> list[Step]:
    """`steps` with as few passes over memory as can be, of which the values named in `kept` come out."""
    readers = Counter(name for step in steps for name in step.inputs)
    made = {name: step for step in steps for name in step.outputs}
    alone = {name for name, count in readers.items() if count == 1 and name not in kept}
    joined = list(_joined(steps, made, alone))
    last = {name: index for index, step in enumerate(joined) for name in step.inputs}
    ended = [{name for name in step.inputs if last[name] == index} for index, step in enumerate(joined)]
    return [
        replace(step, last_uses=tuple(sorted(name for name in names if name is not None and name not in kept)))
        for step, names in zip(joined, ended, strict=True)
    ]


def _joined(steps: Sequence[Step], made: dict[str, Step], alone: Collection[str | None]) -> Iterator[Step]:
    """Each Relu or Clip is part of the quantization after it, or a Relu overwrites what it reads."""
    before = {}
    for step in steps:
        source = made.get(str(step.inputs[0])) if step.inputs and step.inputs[0] in alone else None
        if source is not None and step.grid is not None and not step.grid.column and span_of(source.facts) is not None:
            before[step.outputs] = source
    gone = {source.outputs for source in before.values()}
    for step in steps:
        source = made.get(str(step.inputs[0])) if step.inputs and step.inputs[0] in alone else None
        if step.outputs in gone:
            continue
        if step.outputs in before:
            limit = before[step.outputs]
            row = on_grid(step.facts, copies=len(step.outputs), before=limit.facts)
            yield replace(step, row=row, inputs=(limit.inputs[0], *step.inputs[1:]))
        elif step.facts.op == "Relu" and source is not None and source.facts.op in _FRESH:
            yield replace(step, row=relu_in_place)
        else:
            yield step


def run(step: Step, constants: dict[str, Tensor], rows: Rows, after: After | None) -> None:
    """Compute the outputs of one step, into `rows` where any of its inputs is there, else into `constants`."""
    carried = [name for name in step.inputs if name in rows]
    if not carried:
        tensors = [None if name is None else constants[name] for name in step.inputs]
        constants.update(zip(step.outputs, _several(step.row(step.facts, *tensors)), strict=False))
        return
    folded = carried[0] in rows.folded
    held = rows.folded if folded else rows.plain
    tensors = [None if name is None else held.get(name, constants.get(name)) for name in step.inputs]
    together = all(name in held for name in carried) and (
        step.facts.op in TOGETHER or (step.elementwise and _aligned(step, tensors, held, folded))
    )
    if together:
        held.update(zip(step.outputs, _several(step.row(step.facts, *tensors)), strict=False))
    elif step.independent and _one_by_one(step, tensors, held, folded, len(carried)):
        _run_independent(step, tensors, held, folded, after)
    else:
        for name, value in zip(step.outputs, _run_apart(step, constants, rows), strict=False):
            rows.put(name, value)


def _aligned(step: Step, tensors: Sequence[Tensor | None], held: Collection[str], folded: bool) -> bool:
    """Whether broadcasting all rows at once is broadcasting each."""
    given = [(name, tensor) for name, tensor in zip(step.inputs, tensors, strict=True) if tensor is not None]
    ranks = {tensor.ndim for name, tensor in given if name in held}
    rank = max(ranks)
    fixed = [tensor for name, tensor in given if name not in held]
    fitting = (each.ndim < rank or (folded and each.ndim == rank and each.shape[0] == 1) for each in fixed)
    return len(ranks) == 1 and all(fitting)


def _one_by_one(step: Step, tensors: Sequence[Tensor | None], held: Collection[str], folded: bool, count: int) -> bool:
    """Whether the rows can take the place of what an op treats one by one."""
    first = tensors[0]
    if step.facts.op == "Concat":
        return folded and all(name in held for name in step.inputs)
    if first is None or step.inputs[0] not in held or count > 1 or first.ndim < 2:
        return False
    return step.facts.op != "Gemm" or all(each is None or each.ndim < 2 or len(each) == 1 for each in tensors[2:])


def _run_independent(
    step: Step, tensors: Sequence[Tensor | None], held: dict[str, Tensor], folded: bool, after: After | None
) -> None:
    first, *others = tensors
    assert first is not None
    results = _several(step.row(step.facts, first if folded else first.flatten(0, 1), *others))
    if step.facts.op == "Conv" and after is not None:
        results = (after(step.outputs[0], results[0]),)
    for name, result in zip(step.outputs, results, strict=False):
        held[name] = result if folded else result.unflatten(0, first.shape[:2])


def _run_apart(step: Step, constants: dict[str, Tensor], rows: Rows) -> tuple[Tensor, ...]:
    """The outputs of a step that torch.vmap carries over the rows, with all axes of the graph after them."""
    names = [name for name in step.inputs if name is not None]
    given = [rows.get(name) if name in rows else constants[name] for name in names]

    def row(*present: Tensor) -> Tensor | tuple[Tensor, ...]:
        remaining = iter(present)
        return step.row(step.facts, *(None if name is None else next(remaining) for name in step.inputs))

    return _several(torch.vmap(row, in_dims=tuple(0 if name in rows else None for name in names))(*given))


def _several(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def _row(facts: Facts, node: ir.Node, masters: Collection[ir.Node]) -> Row:
    if node in masters:
        assert node.inputs[0] is not None and node.inputs[0].const_value is not None
        return on_grid(facts, node.inputs[0].const_value.numpy())
    row = OPS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if row is None:
        raise facts.refuse("there is no row for it in the table of trainable ops")
    return row
