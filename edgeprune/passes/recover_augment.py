"""Random flips and shifts of images, so that few training rows go further."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

_SMALLEST_SIDE = 16
_LARGEST_SHIFT = 4


@dataclass(frozen=True)
class Augment:
    """Shifts each image by up to `shift` pixels, with reflection at the border, and mirrors every other colour image.

    What is written, such as a digit, changes its meaning in a mirror: grey images are only shifted.
    """

    shift: int
    mirror: bool
    channels_last: bool

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """What happens to each of `count` images, [count, 3]: whether it is mirrored, and where it is cut out."""
        mirrored = generator.random(count) < 0.5 if self.mirror else np.zeros(count, bool)
        places = generator.integers(0, 2 * self.shift + 1, (count, 2))
        return np.concatenate([mirrored[:, None], places], axis=1)

    def __call__(self, images: torch.Tensor, drawn: np.ndarray) -> torch.Tensor:
        """A changed copy of `images` [rows, channels, height, width] (or channels last)."""
        images = images.permute(0, 3, 1, 2) if self.channels_last else images
        height, width = images.shape[2:]
        if self.mirror:
            chosen = torch.from_numpy(drawn[:, 0] > 0).to(images.device)[:, None, None, None]
            images = torch.where(chosen, images.flip(3), images)
        padded = functional.pad(images, [self.shift] * 4, mode="reflect")
        places = drawn[:, 1:].tolist()
        moved = [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, places, strict=True)]
        images = torch.stack(moved)
        return images.permute(0, 2, 3, 1) if self.channels_last else images


def augment_for(shape: tuple[int, ...]) -> Augment | None:
    """What suits rows of `shape`, without a batch axis; None where they are no images of one or three channels."""
    if len(shape) != 3:
        return None
    channels_last = shape[0] not in (1, 3) and shape[2] in (1, 3)
    channels, *sides = (shape[2], shape[0], shape[1]) if channels_last else shape
    if channels not in (1, 3) or min(sides) < _SMALLEST_SIDE:
        return None
    colour = channels == 3
    shift = min(_LARGEST_SHIFT, min(sides) // (8 if colour else 16))
    return Augment(shift, colour, channels_last)
