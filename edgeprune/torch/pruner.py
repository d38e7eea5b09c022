"""The Pruner: a few lines in a user's own training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.errors import EdgepruneError
from edgeprune.pattern import Pattern
from edgeprune.torch.asked import asked_levels, asked_pattern, asked_steps
from edgeprune.torch.layers import prunable_layers, unwrapped
from edgeprune.torch.network import Loss, MaskedNetwork
from edgeprune.torch.schedule import Schedule
from edgeprune.torch.schedules import schedule_named
from edgeprune.torch.state import check_state


class Pruner:
    """Prunes the convolutions and linear layers of `model` while a loop of the user's trains it.

    `pattern` is written as on the command line ("1x16", "2:4", "channel"); `sparsity` is the share of the weights
    that goes, in [0, 1), and left out for an `n:m` pattern, which fixes it. `schedule` is a name of
    `edgeprune.torch.SCHEDULES` or one of its classes with options; `steps` the number of optimizer steps that it
    spans. `levels` shares the sparsity out: "uniform", "erk", "global" or "raw" (see `edgeprune.torch.levels`), or a
    sparsity for each layer to prune, by its name; None takes what the schedule's paper does. Depthwise layers stay
    dense, and so do the first and last where `protect_ends` and they hold less than a tenth of the weights. Some
    schedules want more: "sr-ste" the `optimizer`; "snip" and "grasp" a `loss`, from the model to the loss of a batch;
    "synflow" an `example` of the inputs. With an `optimizer`, weights that return do so without old momentum.

    With `resume` nothing is chosen until `load_state_dict`. Raises EdgepruneError (option-range, option-conflict,
    option-unknown, sparsity-missing, steps-missing, pattern-unknown, schedule-unknown, layer-missing, layer-unknown,
    weights-not-finite, and what the schedule misses).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        pattern: str | Pattern,
        sparsity: float | None = None,
        schedule: str | Schedule = "gradual",
        steps: int | None = None,
        levels: str | Mapping[str, float] | None = None,
        protect_ends: bool = True,
        optimizer: torch.optim.Optimizer | None = None,
        loss: Loss | None = None,
        example: Tensor | Sequence[Tensor] | None = None,
        seed: int = 0,
        resume: bool = False,
    ) -> None:
        self._schedule = schedule_named(schedule) if isinstance(schedule, str) else schedule
        asked = asked_pattern(pattern)
        inner = unwrapped(model)
        named = isinstance(levels, Mapping)
        layers = prunable_layers(inner, protect_ends and not named)
        rule = self._schedule.rule if levels is None else levels
        wanted = asked_levels(asked, sparsity, rule, layers)
        self._network = MaskedNetwork(
            model=inner,
            layers=wanted.layers,
            pattern=asked,
            sparsity=wanted.sparsity,
            levels=wanted.levels,
            steps=asked_steps(steps, self._schedule),
            optimizer=optimizer,
            loss=loss,
            example=(example,) if isinstance(example, Tensor) else None if example is None else tuple(example),
            seed=seed,
        )
        self._schedule.check(self._network)
        self._handles = self._schedule.attach(self._network)
        self._done, self._awaits_state, self._finished = 0, resume, False
        if not resume:
            self._schedule.begin(self._network)

    def step(self) -> None:
        """Count one optimizer step and put the masks in force; call it right after each `optimizer.step()`.

        Raises EdgepruneError: schedule-ended after `finalize` or after more than the asked steps, state-missing where
        a state was to be resumed and was not loaded, weights-not-finite, gradient-missing.
        """
        self._check_running()
        self._done += 1
        self._network.apply()
        self._schedule.update(self._network, self._done)
        self._network.apply()

    def finalize(self) -> None:
        """End the pruning: the asked levels are reached, the weights are plain tensors with zeros, no hook is left.

        What the schedule had not cut yet is cut now. A second call does nothing. Raises EdgepruneError (state-missing).
        """
        if self._finished:
            return
        self._check_state_loaded()
        self._schedule.end(self._network, self._done)
        self._network.apply()
        self._finish()

    @property
    def sparsity(self) -> float:
        """The share of zeros among the weights that are pruned, as they are now."""
        layers = self._network.layers
        zeros = sum(int((layer.weight == 0).sum()) for layer in layers)
        return zeros / sum(layer.weight.numel() for layer in layers)

    @property
    def densities(self) -> dict[str, float]:
        """The share of nonzero weights, as they are now, of every layer that is pruned."""
        layers = self._network.layers
        return {layer.name: float(layer.weight.count_nonzero()) / layer.weight.numel() for layer in layers}

    @property
    def masks(self) -> dict[str, Tensor]:
        """Copies of the masks in force, by layer name, boolean and of the weight's shape; a dense layer has none."""
        return {name: mask.clone() for name, mask in self._network.masks.items()}

    def state_dict(self) -> dict[str, Any]:
        """What must be saved beside the model's and the optimizer's state; torch.load reads it with weights_only."""
        return {
            "settings": self._settings(),
            "shapes": {layer.name: list(layer.weight.shape) for layer in self._network.layers},
            "done": self._done,
            "finished": self._finished,
            "masks": self.masks,
            "memory": {
                key: {name: tensor.clone() for name, tensor in kept.items()}
                for key, kept in self._network.memory.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state, before the first step; the model's and the optimizer's are loaded by the user.

        Raises EdgepruneError: state-mismatch where it is of another model or of other options, state-late after a step.
        """
        if self._done:
            raise EdgepruneError(
                "state-late",
                f"a state is loaded after {self._done} steps were counted",
                where="load_state_dict",
                hint="load it before the first step, into Pruner(..., resume=True)",
            )
        check_state(state, self._settings(), {layer.name: list(layer.weight.shape) for layer in self._network.layers})
        homes = {layer.name: layer.weight.device for layer in self._network.layers}
        network = self._network
        network.masks = {name: mask.to(homes[name], copy=True) for name, mask in state["masks"].items()}
        network.memory = {
            key: {name: tensor.to(homes[name], copy=True) for name, tensor in kept.items()}
            for key, kept in state["memory"].items()
        }
        self._done, self._awaits_state = int(state["done"]), False
        network.apply()
        if state["finished"]:
            self._finish()

    def _settings(self) -> dict[str, str]:
        network = self._network
        return {
            "schedule": repr(self._schedule),
            "pattern": str(network.pattern),
            "sparsity": repr(network.sparsity),
            "levels": repr(network.levels),
            "steps": repr(network.steps),
        }

    def _finish(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._finished = True

    def _check_running(self) -> None:
        self._check_state_loaded()
        steps = self._network.steps
        if self._finished or (steps and self._done >= steps):
            over = "finalize()" if self._finished else f"all {steps} steps"
            raise EdgepruneError(
                "schedule-ended",
                f"step() was called after {over}",
                where="step",
                hint="give Pruner steps=epochs * batches per epoch, and call finalize() once, after the loop",
            )

    def _check_state_loaded(self) -> None:
        if self._awaits_state:
            raise EdgepruneError(
                "state-missing",
                "the Pruner was made with resume=True, and no state was loaded",
                where="resume",
                hint="call load_state_dict with the state that was saved, or leave resume out",
            )
