"""One of two labels for every node of a graph, with the smallest sum of the nodes' costs and of cut edges."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

Key = TypeVar("Key", bound=Hashable)

_LARGEST_SUM = 1 << 30


def cheapest(costs: Mapping[Key, tuple[float, float]], edges: Sequence[tuple[Key, Key, float, float]]) -> set[Key]:
    """The keys that get the second label when the sum of costs is smallest.

    `costs` has the cost of either label. An edge is two keys and what it costs that the one has the first label and
    the other the second, and the other way round; nothing is negative. Two labels and no reward for differing: a
    minimum cut gives the exact answer (Greig, Porteous and Seheult, 1989).
    """
    number = {key: index for index, key in enumerate(costs)}
    source, sink = len(number), len(number) + 1
    arcs = [(source, number[key], second) for key, (_, second) in costs.items()]
    arcs += [(number[key], sink, first) for key, (first, _) in costs.items()]
    for left, right, forth, back in edges:
        arcs += [(number[left], number[right], forth), (number[right], number[left], back)]
    if not arcs:
        return set()
    tails, heads, sizes = zip(*arcs, strict=True)
    unit = max(1e-12, sum(sizes) / _LARGEST_SUM)
    capacities = np.floor(np.array(sizes) / unit).astype(np.int32)
    network = csr_matrix((capacities, (tails, heads)), shape=(sink + 1, sink + 1))
    left_over = network - maximum_flow(network, source, sink).flow
    left_over.data[left_over.data < 0] = 0
    left_over.eliminate_zeros()
    reached = set(breadth_first_order(left_over, source, return_predecessors=False).tolist())
    return {key for key, index in number.items() if index not in reached}
