"""Labels against sets joined by brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.ir.dependency.labels import FIXED, Labels, compress, varying

SIZE = 8
pairs = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=12)


def joined(links):
    """Sets of labels that `links` join; what is linked with the fixed label only loses its freedom."""
    sets = [{label} for label in range(1, SIZE + 1)]
    for a, b in links:
        if FIXED not in (a, b):
            both = next(each for each in sets if a in each) | next(each for each in sets if b in each)
            sets = [each for each in sets if not each & both] + [both]
    return sets


@given(pairs)
def test_joined_labels_have_one_root(links):
    labels = Labels()
    labels.fresh(SIZE)
    for a, b in links:
        labels.join(np.array([a]), np.array([b]), f"{a} meets {b}")
    bound = {label for a, b in links if FIXED in (a, b) for label in (a, b)}
    roots = labels.roots(np.arange(SIZE + 1))
    assert roots[FIXED] == FIXED
    for each in joined(links):
        assert len({roots[label] for label in each}) == 1
        assert (labels.reason(int(roots[min(each)])) is not None) == bool(each & bound)
    assert len(set(roots[1:])) == len(joined(links))


def test_arrays_join_as_they_broadcast():
    labels = Labels()
    rows, column = labels.fresh(6).reshape(2, 3), labels.fresh(2).reshape(2, 1)
    labels.join(rows, column, "")
    assert labels.roots(rows).tolist() == [[1, 1, 1], [4, 4, 4]]


def test_the_first_reason_stands():
    labels = Labels()
    one, two = labels.fresh(2)
    labels.pin(np.array([two]), "first")
    labels.join(np.array([one]), np.array([two]), "joined")
    labels.pin(np.array([one]), "later")
    assert labels.reason(int(labels.roots(np.array([two]))[0])) == "first"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.lists(st.booleans(), min_size=4, max_size=4))
def test_compressed_labels_broadcast_back(shape, constant):
    small = [1 if constant[axis] else size for axis, size in enumerate(shape)]
    labels = np.broadcast_to(np.arange(int(np.prod(small))).reshape(small), shape)
    found = compress(labels)
    assert found.shape == tuple(small)
    assert varying(found) == tuple(axis for axis, size in enumerate(small) if size > 1)
