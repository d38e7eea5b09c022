"""Which values of a network are quantized, which of them share a grid, and who reads them so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeprune.ir.edit import constant
from edgeprune.ir.quantization import moved_input
from edgeprune.ir.weights import WeightedLayer, weighted_layers
from edgeprune.ir.write_out_recurrent import rounded_inputs
from edgeprune.passes.quantize.images import Images, arithmetic, gate_of, is_pool, same_numbers, unary_source

Use = tuple[ir.Node, int]


@dataclass(frozen=True)
class Point:
    """A value that is quantized where it is made, and the inputs (node, index) that read it so.

    Points of one `grid` number share scale and zero point.
    """

    value: ir.Value
    uses: tuple[Use, ...]
    grid: int


@dataclass(frozen=True)
class Placement:
    """The points of a network in graph order, and by layer name the grid number of what each int8 layer reads."""

    points: tuple[Point, ...]
    layers: dict[str, int]


def place(model: ir.Model, keep_float: Collection[str] = ()) -> Placement:
    """Where pairs of Q and DQ stand in canonical `model`; the layers named in `keep_float` read and give float32.

    Quantized are the inputs of layers with constant weights, and the images between convolutions, residual sums,
    pools and concatenations. A value is quantized where it is made, before anything moves its elements: a convolution
    is followed by its activation and by the residual sum that alone reads it first. What only linear layers read is
    quantized for them alone; an image for every reader but the layers of `keep_float`. A node that says which of its
    inputs it reads rounded gets those. Layers that share their weights read one grid.
    """
    return _Placer(model, frozenset(keep_float)).place()


@dataclass
class _Wanted:
    """Who wants a value quantized; `image` where one of them works on images."""

    uses: list[Use] = field(default_factory=list)
    image: bool = False


class _Placer:
    """Goes through the graph from its end: who wants what quantized."""

    def __init__(self, model: ir.Model, keep_float: frozenset[str]) -> None:
        self._graph = model.graph
        layers = weighted_layers(model)
        self._kept = {id(layer.node) for layer in layers if layer.name in keep_float}
        self._layers = {id(layer.node): layer for layer in layers if layer.name not in keep_float}
        self._images = Images(model)
        self._order = {id(node): index for index, node in enumerate(model.graph)}
        self._wanted: dict[int, _Wanted] = {}
        self._values: dict[int, ir.Value] = {}
        self._moved: set[int] = set()
        self._parents: dict[int, int] = {}
        self._named: dict[str, ir.Value] = {}

    def place(self) -> Placement:
        for node in reversed(self._graph):
            self._visit(node)
        self._join_readers()
        made = [*self._graph.inputs, *(value for node in self._graph for value in node.outputs)]
        points = [value for value in made if id(value) in self._wanted and id(value) not in self._moved]
        numbers: dict[int, int] = {}
        placed = []
        for value in points:
            number = numbers.setdefault(self._root(value), len(numbers))
            placed.append(Point(value, self._uses(value), number))
        layers = {layer.name: self._root(_data(layer)) for layer in self._layers.values()}
        return Placement(tuple(placed), {name: numbers[root] for name, root in layers.items() if root in numbers})

    def _visit(self, node: ir.Node) -> None:
        """Note what `node` wants quantized, given what is wanted of its outputs."""
        wanted = [self._wanted[id(value)] for value in node.outputs if id(value) in self._wanted]
        if rounded := rounded_inputs(node):
            self._want_named(node, rounded)
            return
        if id(node) in self._layers:
            self._want(node, 0, image=node.op_type == "Conv")
        elif id(node) in self._kept or node.domain:
            return
        elif is_pool(node) and node.inputs[0] is not None and node.inputs[0] in self._images:
            self._want(node, 0, image=True)
            if wanted and same_numbers(node):
                self._join(node.outputs[0], node.inputs[0])
        elif node.op_type == "Add" and self._is_residual(node):
            for index in self._stored_operands(node):
                self._want(node, index, image=True)
        elif wanted:
            self._pass_on(node, any(each.image for each in wanted))

    def _want_named(self, node: ir.Node, rounded: Mapping[int, str]) -> None:
        """Note what `node` itself says that it reads rounded; values of one name share a grid."""
        for index, name in rounded.items():
            value = node.inputs[index]
            if value is not None and self._want(node, index, image=False):
                self._join(value, self._named.setdefault(name, value))

    def _join_readers(self) -> None:
        """What layers with the same weights read shares a grid."""
        read: dict[int, ir.Value | None] = {}
        for layer in self._layers.values():
            data = layer.node.inputs[0]
            if data is not None and constant(data) is None:
                self._join(data, read.setdefault(id(layer.weight), data))

    def _pass_on(self, node: ir.Node, image: bool) -> None:
        """What is wanted of the inputs because an output is quantized."""
        if moved_input(node) is not None:
            if all(self._may_move(value, image) for value in node.outputs):
                self._moved.update(id(value) for value in node.outputs)
                self._want(node, 0, image=image)
                for value in node.outputs:
                    self._join(value, node.inputs[0])
        elif node.outputs[0] not in self._images:
            return
        elif node.op_type == "Concat" or same_numbers(node):
            for index in range(len(node.inputs) if node.op_type == "Concat" else 1):
                if self._want(node, index, image=True):
                    self._join(node.outputs[0], node.inputs[index])
        elif gate_of(node) is not None:
            return
        elif (source := unary_source(node)) is not None:
            if source in self._images and not self._follows_arithmetic(source):
                self._want(node, list(node.inputs).index(source), image=True)
        elif arithmetic(node):
            for index in range(len(node.inputs)):
                self._want(node, index, image=True)

    def _want(self, node: ir.Node, index: int, *, image: bool) -> bool:
        """Note that `node` reads its input `index` quantized; False where that is a constant or no float32."""
        value = node.inputs[index]
        if value is None or constant(value) is not None or value.dtype != ir.DataType.FLOAT:
            return False
        self._values[id(value)] = value
        wanted = self._wanted.setdefault(id(value), _Wanted())
        wanted.uses.append((node, index))
        wanted.image = wanted.image or image
        return True

    def _may_move(self, value: ir.Value, image: bool) -> bool:
        """Whether the pair may stand before the node that moves the elements to `value`."""
        readers = [(use.node, use.idx) for use in value.uses()]
        if value.is_graph_output() or any(id(node) in self._kept for node, _ in readers):
            return False
        wanted = self._wanted.get(id(value))
        uses = [] if wanted is None else wanted.uses
        return image or len(uses) == len(readers)

    def _is_residual(self, node: ir.Node) -> bool:
        """Whether `node` adds two computed images of one shape."""
        first, second = node.inputs
        if first is None or second is None or first is second or first.shape != second.shape:
            return False
        return all(value in self._images and constant(value) is None for value in (first, second))

    def _stored_operands(self, node: ir.Node) -> list[int]:
        """The operands of a residual sum that are stored: not the convolution that goes on to add in registers."""
        anchors = [self._anchor(value, [node]) for value in node.inputs]
        found = [(self._order[id(anchor)], index) for index, anchor in enumerate(anchors) if anchor is not None]
        fused = min(found)[1] if found else None
        return [index for index in range(len(node.inputs)) if index != fused]

    def _anchor(self, value: ir.Value | None, readers: list[ir.Node]) -> ir.Node | None:
        """The convolution whose result, maybe after activations and sums, is `value`, if only `readers` read that."""
        node = None if value is None else value.producer()
        if value is None or node is None or value.is_graph_output() or node.domain:
            return None
        if {id(use.node) for use in value.uses()} != {id(reader) for reader in readers}:
            return None
        if node.op_type == "Conv":
            return node
        if (gate := gate_of(node)) is not None:
            return self._anchor(gate.inputs[0], [gate, node])
        if (source := unary_source(node)) is not None:
            return self._anchor(source, [node])
        if node.op_type == "Add" and self._is_residual(node):
            found = [anchor for operand in node.inputs if (anchor := self._anchor(operand, [node])) is not None]
            return min(found, key=lambda anchor: self._order[id(anchor)]) if found else None
        return None

    def _follows_arithmetic(self, value: ir.Value) -> bool:
        """Whether an activation of `value` is computed with what makes it, in registers."""
        node = value.producer()
        if node is None or len(list(value.uses())) > 1 or value.is_graph_output():
            return False
        return node.op_type not in ("Concat", "Resize") and moved_input(node) is None

    def _uses(self, value: ir.Value) -> tuple[Use, ...]:
        wanted = self._wanted[id(value)]
        if not wanted.image:
            return tuple(wanted.uses)
        return tuple((use.node, use.idx) for use in value.uses() if id(use.node) not in self._kept)

    def _join(self, first: ir.Value, second: ir.Value | None) -> None:
        """Both share a grid."""
        if second is not None and self._root(first) != self._root(second):
            self._parents[self._root(first)] = self._root(second)

    def _root(self, value: ir.Value) -> int:
        root = id(value)
        while self._parents.get(root, root) != root:
            root = self._parents[root]
        return root


def _data(layer: WeightedLayer) -> ir.Value:
    value = layer.node.inputs[0]
    assert value is not None
    return value
