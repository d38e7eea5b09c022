"""One operator as its converter sees it: inputs in the order it asks for, new nodes, outputs, and how to refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune.errors import EdgepruneError
from edgeprune.frontend.tflite.graph import GraphBuilder, shape_of
from edgeprune.frontend.tflite.schema import Operator, Tensor
from edgeprune.frontend.tflite.values import Order, Values, natural


class Call:
    """An operator of the graph under conversion; inputs and outputs are counted as TFLite counts them."""

    def __init__(self, operator: Operator, values: Values) -> None:
        self.operator = operator
        self.values = values
        self.builder: GraphBuilder = values.builder
        outputs = [values.tensors[index].name for index in operator.outputs]
        self.name = (outputs[0].partition(";")[0] if outputs else "") or operator.name.lower()

    def option(self, name: str, default: Any = 0) -> Any:
        """An option by its name in the schema."""
        return self.operator.options.get(name, default)

    def index(self, place: int) -> int:
        """The tensor that input `place` reads; -1 where it is left out."""
        return self.operator.inputs[place] if place < len(self.operator.inputs) else -1

    def has(self, place: int) -> bool:
        """Whether input `place` is given."""
        return self.index(place) >= 0

    def tensor(self, place: int) -> Tensor:
        """Facts of input `place`. Raises EdgepruneError where it is left out."""
        if not self.has(place):
            raise self.corrupt(f"input {place} is missing")
        return self.values.tensors[self.index(place)]

    def result(self, place: int = 0) -> Tensor:
        """Facts of output `place`. Raises EdgepruneError where there is none."""
        if place >= len(self.operator.outputs):
            raise self.corrupt(f"output {place} is missing")
        return self.values.tensors[self.operator.outputs[place]]

    def shape(self, place: int) -> tuple[int, ...]:
        """The shape of input `place` as TFLite has it."""
        self.tensor(place)
        return self.values.shape(self.index(place))

    def get(self, place: int, order: Order | None = None) -> ir.Value:
        """Input `place`, real-valued, in `order`."""
        self.tensor(place)
        return self.values.get(self.index(place), order)

    def order(self, place: int) -> Order:
        """The order in which input `place` is at hand."""
        return self.values.order(self.index(place))

    def array(self, place: int) -> np.ndarray:
        """Input `place`, whose stored numbers must be known before the model runs."""
        tensor = self.tensor(place)
        if tensor.data is not None:
            return tensor.data
        value = self.values.get(self.index(place)) if self.values.known(self.index(place)) else None
        if value is not None and value.const_value is not None:
            return value.const_value.numpy()
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, tensor.dtype)
        raise self.refuse(f"input '{tensor.name}' is not constant")

    def integers(self, place: int) -> list[int]:
        """A constant vector of integers."""
        return [int(number) for number in self.array(place).reshape(-1)]

    def add(self, op: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """The result of a new node."""
        return self.builder.add(self.name, op, inputs, attributes)

    def split(self, value: ir.Value, sizes: list[int], axis: int) -> list[ir.Value]:
        """`value` cut along `axis`."""
        if len(sizes) == 1:
            return [value]
        return self.builder.add_all(self.name, "Split", [value, self.vector(sizes)], {"axis": axis}, len(sizes))

    def constant(self, number: Any, dtype: Any = np.float32) -> ir.Value:
        """A constant of the given type."""
        return self.builder.constant(np.asarray(number, dtype), f"{self.name}_constant")

    def vector(self, numbers: Any) -> ir.Value:
        """A constant vector of int64."""
        return self.constant([int(number) for number in numbers], np.int64)

    def reshaped(self, value: ir.Value, shape: Any) -> ir.Value:
        """`value` in `shape`; itself where it has it."""
        return value if shape_of(value) == tuple(shape) else self.add("Reshape", value, self.vector(shape))

    def put(self, value: ir.Value, order: Order | None = None, place: int = 0) -> None:
        """Make `value` output `place`, rounded to what it can store."""
        self.result(place)
        self.values.put(self.operator.outputs[place], value, order)

    def put_moved(self, value: ir.Value, order: Order | None = None, place: int = 0, source: int = 0) -> None:
        """Make `value`, whose elements all come from input `source`, output `place`.

        Nothing has to be rounded where both store alike.
        """
        tensor, result = self.tensor(source), self.result(place)
        alike = tensor.quantization is not None and tensor.quantization.equals(result.quantization)
        self.values.put(self.operator.outputs[place], value, order, exact=alike and tensor.kind == result.kind)

    def steps(self, place: int, order: Order | None = None) -> ir.Value | None:
        """Input `place` in steps of its scale, where the output has 8 bits and the same scale; None otherwise.

        Means of whole numbers meet ties exactly, which means of real numbers only come close to.
        """
        tensor, result = self.tensor(place), self.result()
        alike = tensor.quantization is not None and tensor.quantization.equals(result.quantization)
        fused = self.option("FusedActivationFunction")
        return self.values.steps(self.index(place), order) if alike and not fused else None

    def put_steps(self, value: ir.Value, order: Order | None = None) -> None:
        """Make `value`, in steps of the output's scale, the first output."""
        self.values.put_steps(self.operator.outputs[0], value, order)

    def axis(self, number: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= number < rank:
            raise self.corrupt(f"axis {number} does not exist in {rank} axes")
        return number % rank

    def common_order(self, *places: int) -> Order:
        """The order of axes in which elementwise work on these inputs needs least turning, for the widest of them."""
        rank = max(len(self.shape(place)) for place in places)
        for place in places:
            order = self.order(place)
            if len(order) == rank and order != natural(rank) and self.tensor(place).data is None:
                return order
        return natural(rank)

    def aligned(self, place: int, order: Order) -> ir.Value:
        """Input `place` with as many axes as `order`, new ones of size 1 in front, in `order`."""
        shape, rank = self.shape(place), len(order)
        if len(shape) == rank or not shape or order == natural(rank):
            return self.get(place, order if len(shape) == rank else None)
        value = self.reshaped(self.get(place), (1,) * (rank - len(shape)) + shape)
        return self.values.turned(value, order)

    def refuse(self, why: str) -> EdgepruneError:
        """The error for an operator, or a form of one, that cannot be converted."""
        name = self.operator.name
        return EdgepruneError(
            "op-unsupported",
            f"TFLite operator {name} cannot be imported: {why}",
            where=f"node '{self.name}' ({name})",
            hint="replace the operator in the model, or cut the model before it",
        )

    def corrupt(self, why: str) -> EdgepruneError:
        """The error for an operator whose parts do not fit each other."""
        name = self.operator.name
        return EdgepruneError(
            "model-corrupt",
            f"TFLite operator {name} is not consistent: {why}",
            where=f"node '{self.name}' ({name})",
            hint="the file is damaged, fetch or export it again",
        )
