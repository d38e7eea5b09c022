"""Small networks over vectors, sequences and tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention written out, causal or not."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        parts = self.project(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        scores = query @ key.transpose(-2, -1) / math.sqrt(c // self.heads)
        if self.causal:
            mask = torch.ones(t, t, dtype=torch.bool).tril()
            scores = scores.masked_fill(~mask, float("-inf"))
        mixed = scores.softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    """A transformer block with norms first."""

    def __init__(self, width: int, causal: bool = False, approximate: str = "none") -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, 2, causal)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(approximate=approximate), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, blocks, the class token's logits."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, 4)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 12)), nn.Parameter(torch.randn(1, 10, 12))
        self.blocks = nn.Sequential(Block(12), Block(12))
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Language(nn.Module):
    """Embedding, causal blocks, root mean square norm, logits of every token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(11, 12), nn.Embedding(6, 12)
        self.block, self.head = Block(12, causal=True, approximate="tanh"), nn.Linear(12, 11, bias=False)
        self.norm = nn.RMSNorm(12)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[1]))
        return functional.log_softmax(self.head(self.norm(self.block(x))), -1)


class Recurrent(nn.Module):
    """A recurrent layer over a sequence, and a linear layer on its last step."""

    def __init__(self, kind: type[nn.RNNBase], **options: int | bool) -> None:
        super().__init__()
        self.layer = kind(5, 6, batch_first=True, **options)
        self.head = nn.Linear(12 if options.get("bidirectional") else 6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Temporal(nn.Module):
    """Dilated causal one-dimensional convolutions with residuals: sound and sensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(4, 8, 5, stride=2, padding=2), nn.BatchNorm1d(8), nn.ReLU())
        self.dilated = nn.Conv1d(8, 8, 3, dilation=2)
        self.depthwise, self.point = nn.Conv1d(8, 8, 3, padding=1, groups=8), nn.Conv1d(8, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + torch.tanh(self.dilated(functional.pad(x, (4, 0))))
        x = functional.max_pool1d(functional.relu(self.point(self.depthwise(x))), 2)
        return self.head(functional.adaptive_avg_pool1d(x, 1).squeeze(-1))


class Mixer(nn.Module):
    """Linear layers across tokens, then across channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.tokens, self.channels = nn.LayerNorm(8), nn.Linear(6, 6), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + functional.gelu(self.tokens(self.norm(x).transpose(1, 2))).transpose(1, 2)
        return (x + functional.silu(self.channels(x))).mean(1)


def _perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(9, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12), nn.SiLU(), nn.Linear(12, 10), nn.GELU(),
        nn.Linear(10, 8), nn.SELU(), nn.Linear(8, 4), nn.Softmax(-1),
    )  # fmt: skip


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def sequences() -> dict[str, tuple[nn.Module, Tensor]]:
    """Each family: a network with random weights, and an input."""
    torch.manual_seed(6)
    found = {
        "perceptron": (_perceptron(), torch.randn(1, 9)),
        "mixer": (Mixer(), torch.randn(1, 6, 8)),
        "lstm": (Recurrent(nn.LSTM, num_layers=2), torch.randn(1, 7, 5)),
        "bidirectional gru": (Recurrent(nn.GRU, bidirectional=True), torch.randn(1, 7, 5)),
        "plain recurrence": (Recurrent(nn.RNN), torch.randn(1, 7, 5)),
        "temporal convolution": (Temporal(), torch.randn(1, 4, 25)),
        "vision transformer": (VisionTransformer(), torch.randn(1, 3, 12, 12)),
        "language model": (Language(), torch.randint(0, 11, (1, 6))),
        "transformer encoder": (_encoder(), torch.randn(1, 5, 12)),
    }
    return {name: (module.eval(), example) for name, (module, example) in found.items()}
