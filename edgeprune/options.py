"""What a user may ask of `compile` and `prune`, checked once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edgeprune.errors import EdgepruneError, nearest
from edgeprune.pattern import parse_pattern

PRECISIONS = ("auto", "fp32", "int8", "fp16")
BACKENDS = ("tvm", "tflite")
CRITERIA = (
    "auto",
    "magnitude",
    "wanda",
    "apoz",
    "taylor",
    "taylor2",
    "fisher",
    "ablation",
    "batchnorm",
    "sparsegpt",
    "obs",
    "alps",
)
"""How it is judged what may go; auto is what measured best."""
OBJECTIVES = ("latency", "energy", "size", "ram", "throughput", "drop")
"""What is made best where several results keep every limit; a profile sets it."""

_BYTES = re.compile(r"(\d{1,15}(?:\.\d*)?|\.\d+)\s*([kmg]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass(frozen=True)
class Options:
    """The choices of one `compile` or `prune`.

    `sparsity` is the share of weights removed, in [0, 1), and `pattern` the pattern they are removed in; None
    lets edgeprune choose. `dense` removes nothing. `max_drop` is the accuracy that may be lost, in points (0.01
    of the metric); `max_drop_given` tells a wish of the user from the default. Budgets: `latency` in
    milliseconds, `size` and `ram` in bytes, `energy` in millijoules. `epochs` of recovery training; None lets
    edgeprune choose, 0 trains nothing. `best_effort` writes the result even where a budget or the limit is not
    met. `criterion` judges what may go. `minutes` of wall clock end the recovery training early. `permute` lets
    channels change their order where blocks lose less then. `objective` is what is made best where several results
    keep every limit. `states` are pairs `IN=OUT` of an input and the output that it is in the next inference, which
    the package keeps; `none` leaves those that a model brings to the caller.
    """

    sparsity: float | None = None
    pattern: str | None = None
    dense: bool = False
    precision: str = "auto"
    max_drop: float = 1.0
    max_drop_given: bool = False
    latency: float | None = None
    size: float | None = None
    ram: float | None = None
    energy: float | None = None
    epochs: int | None = None
    backend: str = "tvm"
    seed: int = 0
    threads: int = 1
    random_calibration: bool = False
    best_effort: bool = False
    criterion: str = "auto"
    minutes: float | None = None
    permute: bool = True
    objective: str = "latency"
    states: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no road can do: EdgepruneError (option-range, option-conflict, ...), exit code 2."""
        self._check_pruning()
        self._check_numbers()
        _check_choice(self.precision, PRECISIONS, "--precision")
        _check_choice(self.backend, BACKENDS, "--backend")
        _check_choice(self.criterion, CRITERIA, "--criterion")
        _check_choice(self.objective, OBJECTIVES, "objective")

    def _check_pruning(self) -> None:
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise _range("--sparsity", f"{self.sparsity:g}", "give the removed share as 0 <= F < 1, such as 0.75")
        density = None if self.pattern is None else parse_pattern(self.pattern).density
        asked = {"--sparsity": self.sparsity, "--pattern": self.pattern}
        wanted = [name for name, value in asked.items() if value]
        if self.dense and wanted:
            raise _conflict(
                "--dense", f"--dense removes nothing, but {' and '.join(wanted)} asks for pruning", "drop one of them"
            )
        if self.minutes is not None and (self.dense or self.epochs == 0):
            none = "--dense" if self.dense else "--epochs 0"
            raise _conflict("--minutes", f"--minutes limits the training, and {none} asks for none", "drop one of them")
        if self.dense and self.criterion != "auto":
            what = f"--dense removes nothing, and --criterion {self.criterion} judges what may go"
            raise _conflict("--criterion", what, "drop one of them")
        if density is not None and self.sparsity is not None and not math.isclose(1 - density, self.sparsity):
            raise _conflict(
                "--pattern",
                f"pattern {self.pattern} removes {1 - density:g} of the weights, --sparsity asks for {self.sparsity:g}",
                f"leave --sparsity out: {self.pattern} fixes the level",
            )

    def _check_numbers(self) -> None:
        for name, value in (("--latency", self.latency), ("--size", self.size), ("--ram", self.ram)):
            _check_positive(name, value)
        _check_positive("--energy", self.energy)
        _check_positive("--minutes", self.minutes)
        if not math.isfinite(self.max_drop) or self.max_drop < 0:
            raise _range("--max-drop", f"{self.max_drop:g}", "give points of accuracy, 0 or more, such as 1.0")
        if self.epochs is not None and self.epochs < 0:
            raise _range("--epochs", str(self.epochs), "give 0 (no training) or more")
        if self.threads < 1:
            raise _range("--threads", str(self.threads), "give 1 or more")
        if self.seed < 0:
            raise _range("--seed", str(self.seed), "give 0 or more")


def parse_bytes(text: str, *, where: str = "") -> int:
    """Read a byte count such as `4096`, `64k` or `1.5M` (k, M and G are powers of 1024; case does not matter).

    Raises EdgepruneError (option-range, usage) where the text is no positive size.
    """
    match = _BYTES.fullmatch(text.strip())
    count = 0 if match is None else round(float(match[1]) * _UNITS[match[2].lower()])
    if count < 1:
        raise _range(where, f"'{text}'", "give a number of bytes such as 65536, 64k or 1.5M")
    return count


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise _range(name, f"{value:g}", "give a number above 0")


def _check_choice(value: str, known: tuple[str, ...], name: str) -> None:
    if value not in known:
        what = f"'{value}' is not a choice of {name}"
        raise EdgepruneError("option-unknown", what, where=name, hint=nearest(value, known), exit_code=2)


def _range(where: str, value: str, hint: str) -> EdgepruneError:
    return EdgepruneError("option-range", f"{value} is out of range", where=where, hint=hint, exit_code=2)


def _conflict(where: str, what: str, hint: str) -> EdgepruneError:
    return EdgepruneError("option-conflict", what, where=where, hint=hint, exit_code=2)
