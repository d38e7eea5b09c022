"""From stored values to a model's real-valued input: the `[preprocess]` section of a data card."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from PIL import Image

from edgeprune.errors import EdgepruneError

Channelwise = float | list[float]


class Preprocess(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The steps in the order they are applied; a step left out does nothing.

    `resize` is a side or [height, width] in pixels; `subtract`, `scale`, `mean`, `std` are one number or one per
    channel (last axis); `shape` is that of one row; `layout` is what the model wants of rows stored height, width,
    channels. `label_offset` is added to labels.
    """

    resize: int | tuple[int, int] | None = None
    channels: Literal["RGB", "BGR"] | None = None
    subtract: Channelwise | None = None
    scale: Channelwise | None = None
    mean: Channelwise | None = None
    std: Channelwise | None = None
    shape: list[int] | None = None
    layout: Literal["NCHW", "NHWC"] | None = None
    label_offset: int = 0

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width after `resize`, or None."""
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resize

    @property
    def changes_values(self) -> bool:
        """Whether any step is given."""
        return bool(self.as_dict().keys() - {"label_offset"})

    def as_dict(self) -> dict[str, Any]:
        """The steps that are given, as plain values."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One image (height, width[, channels]) at `size` (height, width), bilinear as Pillow does it; uint8 or float32."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    if image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] == 3):
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    planes = np.atleast_3d(image).astype(np.float32)
    resized = [
        np.asarray(Image.fromarray(planes[:, :, channel]).resize((width, height), Image.Resampling.BILINEAR))
        for channel in range(planes.shape[2])
    ]
    return np.stack(resized, axis=2) if image.ndim == 3 else resized[0]


def preprocess_rows(rows: np.ndarray, steps: Preprocess, where: str) -> np.ndarray:
    """`rows` (count, ...) after `steps`.

    Without a step that changes values the dtype is kept, otherwise it is float32. Raises EdgepruneError (data-shape)
    naming `where` when a step does not fit the rows.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return _arrange(_normalise(_resize(rows, steps), steps), steps)
    except ValueError as error:
        raise EdgepruneError(
            "data-shape",
            f"a preprocessing step does not fit rows of shape {list(rows.shape[1:])}: {error}",
            where=where,
            hint="compare [preprocess] of the card with the stored rows (height, width, channels)",
        ) from error


def _resize(rows: np.ndarray, steps: Preprocess) -> np.ndarray:
    if steps.size is None:
        return rows
    if rows.ndim not in (3, 4):
        raise ValueError("resize wants rows of height, width and, where there are several, channels")
    return np.stack([resize_image(row, steps.size) for row in rows])


def _normalise(rows: np.ndarray, steps: Preprocess) -> np.ndarray:
    if steps.channels == "BGR":
        if rows.ndim != 4 or rows.shape[-1] != 3:
            raise ValueError("channels = 'BGR' wants rows of height, width and 3 channels")
        rows = rows[..., ::-1]
    if all(step is None for step in (steps.subtract, steps.scale, steps.mean, steps.std)):
        return rows
    values = rows.astype(np.float32)
    if steps.subtract is not None:
        values -= np.asarray(steps.subtract, np.float32)
    if steps.scale is not None:
        values *= np.asarray(steps.scale, np.float32)
    if steps.mean is not None:
        values -= np.asarray(steps.mean, np.float32)
    if steps.std is not None:
        values /= np.asarray(steps.std, np.float32)
    return values


def _arrange(rows: np.ndarray, steps: Preprocess) -> np.ndarray:
    if steps.shape is not None:
        rows = rows.reshape(rows.shape[0], *steps.shape)
    if steps.layout is None:
        return rows
    if rows.ndim == 3:
        rows = rows[..., None]
    if rows.ndim != 4:
        raise ValueError(f"layout = '{steps.layout}' wants rows of height, width and channels")
    return np.ascontiguousarray(rows.transpose(0, 3, 1, 2)) if steps.layout == "NCHW" else rows
