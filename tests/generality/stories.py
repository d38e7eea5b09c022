"""Text from stories260K: the tokenizer files of llama2.c, and greedy generation over a window of tokens."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

START, PADDING = 1, 0

Runner = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def read_vocabulary(path: Path) -> list[bytes]:
    """The pieces of text by token: an int32 of the longest, then for each a float32 score, an int32 length, bytes."""
    content, place, pieces = path.read_bytes(), 4, []
    while place < len(content):
        _, length = struct.unpack_from("<fi", content, place)
        pieces.append(content[place + 8 : place + 8 + length])
        place += 8 + length
    return pieces


def text_of(tokens: np.ndarray, vocabulary: list[bytes]) -> str:
    """The text of `tokens`; the blank after the start goes, <0x0A> is a line feed."""
    pieces = [vocabulary[token] for token in tokens.tolist() if token != START]
    joined = b"".join(
        bytes([int(piece[3:5], 16)]) if piece.startswith(b"<0x") and len(piece) == 6 else piece for piece in pieces
    )
    return joined.decode(errors="replace").removeprefix(" ")


def generate(run: Runner, first: list[int], window: int, generator: np.random.Generator | None = None) -> np.ndarray:
    """`window` tokens that start with `first`: the likeliest each time, or drawn where there is a generator."""
    tokens = np.full((1, window), PADDING, np.int64)
    tokens[0, : len(first)] = first
    for place in range(len(first), window):
        logits = run({"tokens": tokens})["logits"][0, place - 1].astype(np.float64)
        if generator is None:
            tokens[0, place] = logits.argmax()
            continue
        chances = np.exp(logits - logits.max())
        tokens[0, place] = generator.choice(len(chances), p=chances / chances.sum())
    return tokens[0]
