"""Which weights a pattern keeps, on the device of the weights: the rules of `edgeprune.mask` on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from edgeprune.pattern import Pattern


def block_scores(scores: Tensor, pattern: Pattern) -> Tensor:
    """The mean score of every block: [groups, taps, ceil(in / block_k), ceil(out / block_n)].

    Under "channel" a block is all that makes one output channel: [groups, 1, 1, out].
    """
    return block_sums(scores, pattern) / block_sizes(scores, pattern)


def block_sizes(scores: Tensor, pattern: Pattern) -> Tensor:
    """The number of weights in each block; the shape goes with that of `block_scores`."""
    if pattern.structure == "channel":
        return scores.new_full((1, 1, 1, 1), scores.shape[1] * scores.shape[2])
    return block_sums(torch.ones_like(scores[:1, :1]), pattern)


def block_sums(scores: Tensor, pattern: Pattern) -> Tensor:
    """The sum over every block of scores [groups, taps, in, out], in float64 where the device has it."""
    exact = scores.to(torch.float32 if scores.device.type == "mps" else torch.float64)
    if pattern.structure == "channel":
        return exact.sum(dim=(1, 2), keepdim=True)
    groups, taps, inputs, outputs = scores.shape
    block_k, block_n = min(pattern.block_k, inputs), min(pattern.block_n, outputs)
    padded = torch.nn.functional.pad(exact, (0, -outputs % block_n, 0, -inputs % block_k))
    height, width = padded.shape[2] // block_k, padded.shape[3] // block_n
    return padded.reshape(groups, taps, height, block_k, width, block_n).sum(dim=(3, 5))


def keep_blocks(blocks: Tensor, pattern: Pattern, density: float) -> Tensor:
    """The blocks to keep, by their scores: n of m, or the share `density`, at least one; of equal scores the first."""
    return _balanced(blocks, pattern) if pattern.group is not None else highest(blocks, round(density * blocks.numel()))


def highest(blocks: Tensor, count: int) -> Tensor:
    """The `count` highest of `blocks`, at least one, as a boolean tensor."""
    order = torch.argsort(blocks.reshape(-1), descending=True, stable=True)
    kept = torch.zeros(blocks.numel(), dtype=torch.bool, device=blocks.device)
    kept[order[: max(1, count)]] = True
    return kept.reshape(blocks.shape)


def expand_blocks(blocks: Tensor, pattern: Pattern, scores: Tensor) -> Tensor:
    """Each block's value at each of its weights, in the shape of `scores` [groups, taps, in, out]."""
    if pattern.structure == "channel":
        return blocks.expand(scores.shape)
    inputs, outputs = scores.shape[2:]
    rows = blocks.repeat_interleave(min(pattern.block_k, inputs), dim=2)[:, :, :inputs]
    return rows.repeat_interleave(min(pattern.block_n, outputs), dim=3)[..., :outputs]


def _balanced(blocks: Tensor, pattern: Pattern) -> Tensor:
    assert pattern.keep is not None and pattern.group is not None
    groups, taps, length, width = blocks.shape
    size = min(pattern.group, length)
    padded = torch.nn.functional.pad(blocks, (0, 0, 0, -length % size), value=-torch.inf)
    parted = padded.reshape(groups, taps, -1, size, width)
    rank = torch.argsort(torch.argsort(parted, dim=3, descending=True, stable=True), dim=3)
    lengths = [min(size, length - start) for start in range(0, length, size)]
    counts = torch.tensor([-(-part * pattern.keep // pattern.group) for part in lengths], device=blocks.device)
    kept = rank < counts[:, None, None]
    return kept.reshape(padded.shape)[:, :, :length]
