"""Plain numpy convolution, the oracle of the kernels."""

from __future__ import annotations

import numpy as np


def convolve(
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray | None,
    *,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int],
    size: tuple[int, int],
) -> np.ndarray:
    """The convolution of `x` [batch, channels, height, width] as float64 [batch, groups*out, *size].

    `weights` is [groups, taps, in, out]; `pads` is (top, left) and `size` the output's (height, width): zeros are
    read wherever that reaches beyond `x`.
    """
    groups, _, inputs, outputs = weights.shape
    reach = [(size[a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1 for a in range(2)]
    extra = [max(0, reach[a] - pads[a] - x.shape[2 + a]) for a in range(2)]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pads[0], extra[0]), (pads[1], extra[1])))
    result = np.zeros((x.shape[0], groups * outputs, *size))
    for group in range(groups):
        source = padded[:, group * inputs : (group + 1) * inputs]
        for row in range(kernel[0]):
            for column in range(kernel[1]):
                top, left = row * dilations[0], column * dilations[1]
                seen = source[:, :, top :: strides[0], left :: strides[1]][:, :, : size[0], : size[1]]
                tap = weights[group, row * kernel[1] + column].astype(np.float64)
                result[:, group * outputs : (group + 1) * outputs] += np.einsum("bihw,io->bohw", seen, tap)
    return result if bias is None else result + bias.astype(np.float64)[None, :, None, None]
