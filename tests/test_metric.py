import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.errors import EdgepruneError
from edgeprune.metric import better, drop_points, evaluate, fidelity, needs_labels, score


def ranked(row):
    """Class numbers from the largest output down, earlier classes first among equals."""
    return sorted(range(len(row)), key=lambda index: (-row[index], index))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30), classes=st.integers(1, 9), ties=st.booleans())
def test_top1_and_top5_by_sorting(seed, count, classes, ties):
    generator = np.random.default_rng(seed)
    outputs = generator.integers(0, 3, (count, classes)) * 1.0 if ties else generator.normal(size=(count, classes))
    labels = generator.integers(0, classes, count)
    for metric, places in (("top1", 1), ("top5", 5)):
        right = [label in ranked(row)[:places] for row, label in zip(outputs.tolist(), labels, strict=True)]
        assert score(metric, outputs, labels) == pytest.approx(np.mean(right))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 30), two=st.booleans())
def test_auc_by_counting_pairs(seed, count, two):
    generator = np.random.default_rng(seed)
    labels = np.r_[0, 1, generator.integers(0, 2, count - 2)]
    outputs = generator.integers(0, 4, (count, 2 if two else 1)).astype(np.float32)
    values = outputs[:, 1] - outputs[:, 0] if two else outputs[:, 0]
    wins = [
        (one > zero) + 0.5 * (one == zero)
        for one in values[labels == 1].tolist()
        for zero in values[labels == 0].tolist()
    ]
    assert score("auc", outputs, labels) == pytest.approx(np.mean(wins))


def test_mse_by_loops():
    generator = np.random.default_rng(0)
    outputs, labels = generator.normal(size=(5, 2, 3)), generator.normal(size=(5, 6))
    total = sum((a - b) ** 2 for a, b in zip(outputs.ravel(), labels.ravel(), strict=True))
    assert score("mse", outputs, labels) == pytest.approx(total / 30)


def test_fidelity_by_loops():
    generator = np.random.default_rng(0)
    outputs = {"a": generator.normal(size=(4, 5)), "b": generator.normal(size=(4, 2, 3, 3))}
    reference = {name: array + generator.normal(size=array.shape) for name, array in outputs.items()}
    cosines = []
    for name in outputs:
        for left, right in zip(outputs[name], reference[name], strict=True):
            a, b = left.ravel(), right.ravel()
            cosines.append(sum(a * b) / np.sqrt(sum(a * a) * sum(b * b)))
    judged = evaluate("fidelity", outputs, None, reference)
    assert judged.value == pytest.approx(np.mean(cosines))
    assert judged.top1_agreement == np.mean(
        [
            list(left).index(max(left)) == list(right).index(max(right))
            for left, right in zip(outputs["a"], reference["a"], strict=True)
        ]
    )


def test_fidelity_where_rows_are_zero_or_broken():
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert fidelity({"y": zero}, {"y": zero})[0] == 1.0
    assert fidelity({"y": zero}, {"y": one})[0] == 0.0
    assert fidelity({"y": -one}, {"y": one})[0] == pytest.approx(-1.0)
    cosine, agreement = fidelity({"y": np.full((1, 3), np.nan)}, {"y": one})
    assert (cosine, agreement) == (0.0, 0.0)
    assert fidelity({"y": np.ones((2, 1))}, {"y": np.ones((2, 1))})[1] is None


def test_agreement_takes_classes_from_the_channel_axis_of_images():
    reference = np.zeros((1, 2, 3, 4))
    reference[0, 1] = 1.0
    outputs = reference.copy()
    outputs[0, 0, 0, 0] = 5.0
    assert fidelity({"y": outputs}, {"y": reference})[1] == pytest.approx(11 / 12)


def test_whole_numbers_are_classes():
    given, wanted = np.array([3, 1, 2, 2]), np.array([3, 1, 2, 0])
    assert score("top1", given, wanted) == score("top1", given[:, None], wanted) == 0.75
    assert fidelity({"y": given}, {"y": wanted}) == (0.75, 0.75)
    assert fidelity({"y": given.reshape(1, 2, 2)}, {"y": wanted.reshape(1, 2, 2)}) == (0.75, 0.75)


def test_tokens_are_compared_one_by_one():
    random = np.random.default_rng(3)
    outputs, reference = random.standard_normal((2, 4, 7, 5))
    outputs[0, 0] *= 1000
    expected = np.mean(
        [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for row, other in zip(outputs, reference, strict=True)
            for a, b in zip(row, other, strict=True)
        ]
    )
    cosine, agreement = fidelity({"logits": outputs}, {"logits": reference})
    assert cosine == pytest.approx(expected)
    assert agreement == pytest.approx(np.mean(outputs.argmax(2) == reference.argmax(2)))


def test_one_value_a_row_is_compared_over_all_rows():
    reference = np.array([[0.1], [0.9], [0.2]])
    assert fidelity({"y": reference}, {"y": reference})[0] == pytest.approx(1.0)
    cosine, agreement = fidelity({"y": reference[::-1]}, {"y": reference})
    assert cosine == pytest.approx((0.02 + 0.81 + 0.02) / (0.01 + 0.81 + 0.04))
    assert agreement is None


def test_broken_rows_count_as_wrong():
    outputs = np.array([[np.nan, 0.0], [1.0, 0.0]])
    assert score("top1", outputs, np.array([0, 0])) == 0.5
    assert score("auc", np.array([[np.nan], [1.0]]), np.array([1, 0])) == 0.0


def test_the_first_output_is_judged():
    outputs = {"logits": np.eye(3), "other": np.zeros((3, 3))}
    assert score("top1", outputs, np.arange(3)) == 1.0
    assert score("top1", list(np.eye(3)), np.arange(3)) == 1.0


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "code"),
    [
        ("top1", np.zeros((2, 3)), np.array([0, 3]), "labels-misfit"),
        ("top1", np.zeros((2, 3)), np.array([-1, 0]), "labels-misfit"),
        ("top1", np.zeros((2, 3)), np.array([0.5, 0.0]), "labels-misfit"),
        ("top5", np.zeros((2, 3)), np.array([0]), "labels-misfit"),
        ("top1", np.zeros((0, 3)), np.zeros(0, int), "labels-misfit"),
        ("auc", np.zeros((2, 3)), np.array([0, 1]), "labels-misfit"),
        ("auc", np.zeros((2, 1)), np.array([1, 1]), "labels-misfit"),
        ("mse", np.zeros((2, 3)), np.zeros((2, 4)), "labels-misfit"),
        ("top1", np.zeros((2, 3)), None, "labels-missing"),
        ("fidelity", np.zeros((2, 3)), None, "reference-missing"),
        ("top2", np.zeros((2, 3)), np.array([0, 1]), "metric-unknown"),
    ],
)
def test_what_cannot_be_judged(metric, outputs, labels, code):
    with pytest.raises(EdgepruneError) as caught:
        score(metric, outputs, labels)
    assert caught.value.code == code
    assert caught.value.hint


def test_outputs_of_another_form():
    for reference in ({"z": np.ones((1, 2))}, {"y": np.ones((1, 3))}):
        with pytest.raises(EdgepruneError):
            fidelity({"y": np.ones((1, 2))}, reference)


def test_direction_and_points():
    assert [better(metric) for metric in ("top1", "top5", "auc", "fidelity", "mse")] == ["higher"] * 4 + ["lower"]
    assert not needs_labels("fidelity")
    assert drop_points("top1", 0.91, 0.9) == pytest.approx(1.0)
    assert drop_points("auc", 0.9, 0.95) == pytest.approx(-5.0)
    assert drop_points("mse", 2.0, 2.5) == pytest.approx(25.0)
    assert drop_points("mse", 0.0, 0.0) == 0.0
    assert drop_points("mse", 0.0, 0.1) == float("inf")
