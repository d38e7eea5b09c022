"""Accuracy by when and how weights go: every schedule of edgeprune.torch at one sparsity, test rows, over seeds.

python benchmarks/timings.py                                    # handwritten digits, from scratch, under 3 minutes
EDGEPRUNE_DATA=... python benchmarks/timings.py --card cifar10  # resnet20, on from its trained weights
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu

from edgeprune.data import load_card
from edgeprune.data.samples import InputSpec
from edgeprune.frontend.torch import read_state
from edgeprune.torch import SCHEDULES, Pruner

BATCH = 64
ROWS = ["dense", *SCHEDULES]


@dataclass(frozen=True)
class Task:
    """Rows to train on and to test, how a network for them starts, and the highest learning rate that suits it."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    start: nn.Module | None
    rate: float
    epochs: int
    flip: bool

    def network(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        if self.start is None:
            return digits_network()
        network = CifarResNet()
        network.load_state_dict(self.start.state_dict())
        return network


def main() -> None:
    arguments = read_arguments()
    torch.set_num_threads(arguments.threads)
    task = cifar10() if arguments.card == "cifar10" else digits()
    epochs = arguments.epochs or task.epochs
    print(f"{arguments.card}, {arguments.sparsity:.0%} of the weights of the inner layers go, {epochs} epochs")
    print(f"{'schedule':<12} {'pattern':<8} {'levels':<8} {'sparsity':>8} {'test':>7} {'spread':>7} {'seconds':>8}")
    share = f"{round(4 * (1 - arguments.sparsity))}:4"
    rows = [(name, "" if name == "dense" else arguments.pattern) for name in arguments.schedules]
    rows += [("sr-ste", share)] * ("sr-ste" in arguments.schedules and arguments.sparsity in (0.25, 0.5, 0.75))
    for schedule, pattern in rows:
        began = time.perf_counter()
        found = [
            trained(task, schedule, pattern, arguments.sparsity, epochs, arguments.levels, seed)
            for seed in arguments.seeds
        ]
        accuracies, sparsity = [accuracy for accuracy, _ in found], statistics.mean(gone for _, gone in found)
        levels = "" if schedule == "dense" else arguments.levels or SCHEDULES[schedule].rule
        seconds = (time.perf_counter() - began) / len(found)
        spread = max(accuracies) - min(accuracies)
        print(
            f"{schedule:<12} {pattern:<8} {levels:<8} {sparsity:>8.3f} {statistics.mean(accuracies):>7.4f} "
            f"{spread:>7.4f} {seconds:>8.1f}",
            flush=True,
        )


def trained(
    task: Task, schedule: str, pattern: str, sparsity: float, epochs: int, levels: str | None, seed: int
) -> tuple[float, float]:
    """Accuracy on the test rows, and the share of zeros in the layers that were pruned."""
    network = task.network(seed)
    images, labels = task.train
    per_epoch = len(images) // BATCH
    steps = epochs * per_epoch
    optimizer = torch.optim.SGD(network.parameters(), task.rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step / steps))
    generator = torch.Generator().manual_seed(seed)
    network.train()
    pruner = None
    if schedule != "dense":
        few = torch.randperm(len(images), generator=generator)[: 4 * BATCH]
        pruner = Pruner(
            network,
            pattern=pattern,
            sparsity=sparsity,
            schedule=schedule,
            steps=steps,
            levels=levels,
            optimizer=optimizer,
            loss=lambda model: cross_entropy(model(images[few]), labels[few]),
            example=images[:1],
            seed=seed,
        )
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for rows in order[: per_epoch * BATCH].split(BATCH):
            batch = images[rows]
            if task.flip:
                turned = torch.rand(BATCH, 1, 1, 1, generator=generator) < 0.5
                batch = torch.where(turned, batch.flip(-1), batch)
            loss = cross_entropy(network(batch), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
            if pruner is not None:
                pruner.step()
    if pruner is not None:
        pruner.finalize()
    return top1(network, *task.test), 0.0 if pruner is None else pruner.sparsity


def learning_rate(done: float, warm: float = 0.05) -> float:
    """The share of the highest rate: a linear rise, then a cosine to zero."""
    return done / warm if done < warm else 0.5 * (1 + math.cos(math.pi * (done - warm) / (1 - warm)))


@torch.no_grad()
def top1(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network.eval()
    right = [
        int((network(images[rows]).argmax(1) == labels[rows]).sum()) for rows in torch.arange(len(images)).split(250)
    ]
    return sum(right) / len(images)


def digits() -> Task:
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = torch.from_numpy(found.images[order].astype(np.float32)[:, None] / 16)
    labels = torch.from_numpy(found.target[order].astype(np.int64))
    return Task((images[:1297], labels[:1297]), (images[1297:], labels[1297:]), None, 0.1, 8, False)


def digits_network() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    body = [*block(1, 8), *block(8, 16), nn.MaxPool2d(2), *block(16, 16), *block(16, 16)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def cifar10() -> Task:
    folder = Path(os.environ["EDGEPRUNE_DATA"])
    card = load_card(folder / "cards" / "cifar10.toml")
    specs = [InputSpec("x", (1, 3, 32, 32), "float32")]
    splits = [card.load(split, specs) for split in ("train", "test")]
    train, test = ((torch.from_numpy(part.inputs["x"]), torch.from_numpy(part.labels).long()) for part in splits)
    network = CifarResNet()
    network.load_state_dict(read_state(folder / "models" / "cifar_resnet" / "resnet20-12fca82f.th"))
    return Task(train, test, network, 0.02, 4, True)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut that drops pixels and pads channels (option A of He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.extra, self.stride = (outputs - inputs) // 2, stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        if self.stride > 1:
            x = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return relu(y + x)


class CifarResNet(nn.Module):
    """resnet20, with the names of its published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--card", choices=["digits", "cifar10"], default="digits")
    parser.add_argument("--schedules", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--pattern", default="1x16")
    parser.add_argument("--sparsity", type=float, default=0.75)
    parser.add_argument("--levels", choices=["uniform", "erk", "global", "raw"])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
