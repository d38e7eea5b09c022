"""Boxes from the output of FastestDet (dog-qiuqiu/FastestDet), and the average precision at an overlap of one half."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

SMALLEST_SCORE = 0.001
OVERLAP_OF_DOUBLES = 0.45
OVERLAP_OF_HITS = 0.5


class Boxes(NamedTuple):
    """Boxes of one image: corners (left, top, right, bottom) as shares of its sides, classes, scores; best first."""

    corners: np.ndarray
    classes: np.ndarray
    scores: np.ndarray

    def at(self, index: np.ndarray) -> Boxes:
        return Boxes(self.corners[index], self.classes[index], self.scores[index])


def decode(output: np.ndarray) -> Boxes:
    """The boxes of one image from (5 + classes, rows, columns): each cell is one candidate.

    Channel 0 is the chance of an object, 1 to 4 the box, the rest the chances of the classes.
    """
    _, rows, columns = output.shape
    y, x = np.mgrid[:rows, :columns]
    centre = (np.tanh(output[1]) + x) / columns, (np.tanh(output[2]) + y) / rows
    half = [0.5 / (1 + np.exp(-side)) for side in output[3:5]]
    corners = np.stack([centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]], axis=-1)
    scores = output[0] * output[5:].max(axis=0)
    boxes = Boxes(corners.reshape(-1, 4), output[5:].argmax(axis=0).reshape(-1), scores.reshape(-1))
    boxes = boxes.at(np.argsort(-boxes.scores, kind="stable"))
    return _without_doubles(boxes.at(boxes.scores > SMALLEST_SCORE))


def overlaps(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of `left` with every box of `right`."""
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (left, right)]
    return shared / (areas[0][:, None] + areas[1][None, :] - shared)


def _without_doubles(boxes: Boxes) -> Boxes:
    """Non-maximum suppression within each class."""
    clash = overlaps(boxes.corners, boxes.corners) > OVERLAP_OF_DOUBLES
    clash &= boxes.classes[:, None] == boxes.classes[None, :]
    kept = np.ones(len(boxes.scores), bool)
    for index in range(len(kept)):
        if kept[index]:
            kept[index + 1 :] &= ~clash[index, index + 1 :]
    return boxes.at(kept)


def read_labels(path: Path) -> dict[str, Boxes]:
    """The true boxes by image name from rows of [class, centre x, centre y, width, height]."""
    return {
        name: _true_boxes(np.array(rows, float).reshape(-1, 5)) for name, rows in json.loads(path.read_text()).items()
    }


def _true_boxes(rows: np.ndarray) -> Boxes:
    corners = np.concatenate([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2], axis=1)
    return Boxes(corners, rows[:, 0].astype(int), np.ones(len(rows)))


def average_precision(found: list[Boxes], true: list[Boxes]) -> float:
    """AP50 as COCO defines it: 101-point interpolation, the mean over the classes that occur."""
    classes = sorted({int(number) for boxes in true for number in boxes.classes})
    return float(np.mean([_of_class(found, true, number) for number in classes]))


def _of_class(found: list[Boxes], true: list[Boxes], number: int) -> float:
    hits, scores, wanted = [np.zeros(0, bool)], [np.zeros(0)], 0
    for candidates, boxes in zip(found, true, strict=True):
        mine, real = candidates.at(candidates.classes == number), boxes.at(boxes.classes == number)
        wanted += len(real.scores)
        hits.append(_hits(mine.corners, real.corners))
        scores.append(mine.scores)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    right = np.cumsum(np.concatenate(hits)[order])
    precision = right / np.arange(1, len(order) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(right / wanted, np.linspace(0, 1, 101), side="left")
    return float(np.mean(np.append(best_from_here, 0.0)[np.minimum(place, len(order))]))


def _hits(found: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Whether each box, best first, meets a real one that none before it has taken."""
    overlap = overlaps(found, real)
    hits = np.zeros(len(found), bool)
    for index, row in enumerate(overlap):
        if len(row) and row.max() >= OVERLAP_OF_HITS:
            hits[index] = True
            overlap[:, row.argmax()] = 0
    return hits
