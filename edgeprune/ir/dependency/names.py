"""Names for new nodes of a graph."""

from __future__ import annotations

import onnx_ir as ir


class Names:
    """Gives names that no node of `graph` has, nor was given before."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken = {node.name for node in graph}

    def new(self, wanted: str) -> str:
        """`wanted`, with a number behind where it is taken."""
        name, count = wanted, 1
        while name in self._taken:
            name, count = f"{wanted}_{count}", count + 1
        self._taken.add(name)
        return name
