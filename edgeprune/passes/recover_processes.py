"""The processes that train one model together, through Hugging Face accelerate, and the device of this one."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
import torch.distributed.nn.functional as distributed
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object

Tensor = torch.Tensor
Tensors = dict[str, Tensor]
Content = TypeVar("Content")


class Processes:
    """One process, or as many as `accelerate launch` (or another launcher that it knows) has started.

    All hold the same weights and take the same steps: each computes its part of every batch, and gradients are
    summed. The device is the process's GPU where there is one.
    """

    def __init__(self) -> None:
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.device: torch.device = self._accelerator.device
        self.count = int(self._accelerator.num_processes)

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks for all."""
        return bool(self._accelerator.is_main_process)

    def part(self, rows: np.ndarray) -> np.ndarray:
        """This process's consecutive part of `rows`."""
        return np.array_split(rows, self.count)[self._accelerator.process_index]

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, which gradients do not pass."""
        return tensor if self.count == 1 else self._accelerator.reduce(tensor.detach(), "sum")

    def total_with_gradient(self, tensor: Tensor) -> Tensor:
        """The sum over all processes; a gradient that comes back is summed as well."""
        return tensor if self.count == 1 else distributed.all_reduce(tensor)

    def totals(self, tensors: Tensors) -> Tensors:
        """The sum of each tensor over all processes, in one exchange."""
        if self.count == 1 or not tensors:
            return tensors
        flat = self.total(torch.cat([tensor.reshape(-1) for tensor in tensors.values()]))
        parts = flat.split([tensor.numel() for tensor in tensors.values()])
        return {name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)}

    def joined(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What all processes have, one after the other along the first axis."""
        if self.count == 1:
            return arrays
        every: list[dict[str, np.ndarray]] = gather_object([arrays])
        return {name: np.concatenate([each[name] for each in every]) for name in arrays}

    def same(self, number: float) -> float:
        """The number of the first process: clocks differ, and all must take the same steps."""
        if self.count == 1:
            return number
        return float(broadcast(torch.tensor(number, dtype=torch.float32, device=self.device)))

    def shared(self, content: Content) -> Content:
        """What the first process has."""
        return content if self.count == 1 else broadcast_object_list([content])[0]
