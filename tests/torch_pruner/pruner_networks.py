"""Small networks, and the loop that trains them."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy


def block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def convnet(seed: int = 0) -> nn.Sequential:
    """Two prunable convolutions, named 3 and 6, between small ends; 8 x 8 images of one channel, five classes."""
    torch.manual_seed(seed)
    body = [*block(1, 8), *block(8, 20), *block(20, 24)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5))


def mixed(seed: int = 0) -> nn.Sequential:
    """Awkward widths: a grouped convolution, a depthwise one, a one-dimensional tail."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 12, 1),
        nn.ReLU(),
        nn.Conv2d(12, 21, (3, 1), groups=3),
        nn.ReLU(),
        nn.Conv2d(21, 21, 3, groups=21),
        nn.ReLU(),
        nn.Flatten(2),
        nn.Conv1d(21, 10, 5),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(10, 7),
    )


def batches(count: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randn(16, 1, 8, 8, generator=generator) for _ in range(count)]
    return [(part, torch.randint(0, 5, (16,), generator=generator)) for part in images]


def loss_of(model: nn.Module) -> torch.Tensor:
    images, labels = batches(1, seed=99)[0]
    return cross_entropy(model(images), labels)


def train(model, optimizer, pruner, parts) -> None:
    model.train()
    for images, labels in parts:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pruner.step()


def sgd(model: nn.Module, rate: float = 0.05) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), rate, momentum=0.9, weight_decay=1e-3)


EXTRAS = {
    "snip": {"loss": loss_of},
    "grasp": {"loss": loss_of},
    "synflow": {"example": torch.zeros(1, 1, 8, 8)},
}
