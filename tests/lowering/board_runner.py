"""Models as firmware on an emulated microcontroller."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.chip import load_chip
from edgeprune.deploy.mailbox_runner import MailboxRunner
from edgeprune.deploy.unicorn_board import UnicornBoard
from edgeprune.firmware.link import link_firmware
from edgeprune.lowering.lower import lower
from edgeprune.lowering.static_library import build_static
from edgeprune.target import load_target


def on_board(model: ir.Model, target_name: str, chip_name: str) -> tuple[int, MailboxRunner]:
    """The bytes of scratch memory of `model`, and its firmware, ready to run."""
    target, chip = load_target(target_name), load_chip(chip_name)
    library = build_static(lower(model, target), target, "model")
    firmware = link_firmware(
        library.archive,
        library.sources["edge_model.h"],
        chip,
        target,
        arena_bytes=library.arena.size,
        steps=[layer.name for layer in library.layers],
    )
    return library.arena.size, MailboxRunner(UnicornBoard(firmware.elf, chip), firmware.mailbox_address, firmware.model)
