"""The cores that unicorn emulates: what it calls them and their registers."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import ModuleType
from typing import Any

from edgeprune.chip import Chip
from edgeprune.errors import EdgepruneError


@dataclass(frozen=True)
class Core:
    """Names of unicorn's constants; `low_bit` is set in the addresses of code that it is given."""

    architecture: str
    modes: tuple[str, ...]
    model: str
    constants: str
    counter: str
    link: str
    stack: str
    low_bit: int

    def machine(self) -> Any:
        """A machine of this core without memory. Raises EdgepruneError (emulator-missing)."""
        uc = unicorn_module("unicorn")
        modes = reduce(or_, (getattr(uc, name) for name in self.modes))
        made = uc.Uc(getattr(uc, self.architecture), modes)
        if self.model:
            made.ctl_set_cpu_model(self.number(self.model))
        return made

    def number(self, name: str) -> int:
        """Unicorn's number of a register or a model."""
        return int(getattr(unicorn_module(self.constants), name))


def _arm(model: str) -> Core:
    modes = ("UC_MODE_THUMB", "UC_MODE_MCLASS")
    registers = ("UC_ARM_REG_PC", "UC_ARM_REG_LR", "UC_ARM_REG_SP")
    return Core("UC_ARCH_ARM", modes, f"UC_CPU_ARM_{model}", "unicorn.arm_const", *registers, 1)


_RISCV = ("UC_RISCV_REG_PC", "UC_RISCV_REG_RA", "UC_RISCV_REG_SP")
_CORES = {
    "cortex-m0plus": _arm("CORTEX_M0"),
    "cortex-m3": _arm("CORTEX_M3"),
    "cortex-m4": _arm("CORTEX_M4"),
    "cortex-m7": _arm("CORTEX_M7"),
    "cortex-m33": _arm("CORTEX_M33"),
    "riscv32imc": Core("UC_ARCH_RISCV", ("UC_MODE_RISCV32",), "", "unicorn.riscv_const", *_RISCV, 0),
}


def core_of(chip: Chip) -> Core:
    """The core of `chip`. Raises EdgepruneError (emulator-unsupported) where unicorn has none such."""
    if chip.target not in _CORES:
        what = f"unicorn has no {chip.target}"
        hint = "emulate it with a qemu board: edgeprune boards lists them"
        raise EdgepruneError("emulator-unsupported", what, where=f"chip {chip.name}", hint=hint)
    return _CORES[chip.target]


def unicorn_module(name: str) -> ModuleType:
    """A module of unicorn's. Raises EdgepruneError (emulator-missing)."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        hint = "pip install unicorn"
        what = "an emulated board needs the package unicorn"
        raise EdgepruneError("emulator-missing", what, where="--board", hint=hint) from error
