"""Places of values in buffers, against numpy's own strided views."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.kernels.abi import View
from edgeprune.lowering.strided import Strided, copy_views, dense, fit, image_view, matrix_view

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)


def elements_of(view: View) -> np.ndarray:
    """The places that a view visits, [N, C, H, W], by its own definition."""
    n, c, y, x = np.meshgrid(
        *(np.arange(size) for size in (view.batch, view.channels, view.height, view.width)), indexing="ij"
    )
    return view.offset + n * view.batch_stride + c * view.channel_stride + y * view.row_stride + x * view.pixel_stride


@given(shapes)
def test_dense_places_are_the_element_numbers(shape: tuple[int, ...]) -> None:
    place = dense("b", shape)
    assert np.array_equal(place.places(), np.arange(np.prod(shape)).reshape(shape))
    assert place.is_dense


@given(shapes, st.data())
def test_fit_finds_the_strides_of_a_transposed_slice(shape: tuple[int, ...], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    starts = [data.draw(st.integers(0, extent - 1)) for extent in shape]
    steps = [data.draw(st.integers(1, 3)) for _ in shape]
    numbers = np.arange(np.prod(shape)).reshape(shape)
    moved = numbers[tuple(slice(start, None, step) for start, step in zip(starts, steps, strict=True))].transpose(order)
    found = fit("b", moved)
    assert found is not None
    assert np.array_equal(found.places(), moved)


def test_fit_refuses_a_shuffle() -> None:
    assert fit("b", np.array([0, 2, 1, 3])) is None
    assert fit("b", np.array([], dtype=np.int64)) is None


@given(shapes.filter(lambda shape: len(shape) <= 4))
def test_image_view_visits_the_same_elements(shape: tuple[int, ...]) -> None:
    places = elements_of(image_view(dense("b", shape)))
    assert np.array_equal(places.reshape(-1), np.arange(np.prod(shape)))


@given(shapes)
def test_matrix_view_of_a_dense_array_has_one_row_a_vector(shape: tuple[int, ...]) -> None:
    view = matrix_view(dense("b", shape))
    assert view is not None
    assert np.array_equal(elements_of(view)[0, :, 0, :].T.reshape(-1), np.arange(np.prod(shape)))


def test_matrix_view_refuses_unevenly_spaced_rows() -> None:
    assert matrix_view(Strided("b", (2, 3, 4), (100, 4, 1))) is None


@given(shapes, st.data())
def test_copy_views_pair_the_same_elements(shape: tuple[int, ...], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    source_numbers = np.arange(np.prod(shape)).reshape([shape[axis] for axis in np.argsort(order)]).transpose(order)
    assert source_numbers.shape == shape
    source = fit("a", source_numbers)
    assert source is not None
    views = copy_views(source, dense("b", shape))
    if views is None:
        assert len(shape) > 4
        return
    pairs = dict(
        zip(elements_of(views[1]).reshape(-1).tolist(), elements_of(views[0]).reshape(-1).tolist(), strict=True)
    )
    assert pairs == dict(enumerate(source_numbers.reshape(-1).tolist()))
