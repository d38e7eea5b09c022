"""The linker script of a chip: what stands where in its memory."""

from __future__ import annotations

from edgeprune.chip import Chip, Region

_SCRIPT = """\
/* Generated for {chip}. Sizes are checked after linking, where the numbers are known. */
ENTRY(edge_start)
PROVIDE(__aeabi_unwind_cpp_pr0 = 0);
PROVIDE(__aeabi_unwind_cpp_pr1 = 0);
SECTIONS
{{
  . = {flash:#010x};
  .edge_boot : {{ KEEP(*(.edge_boot)) }}
  .edge_vectors : ALIGN(128) {{ KEEP(*(.edge_vectors)) KEEP(*(.edge_block)) }}
  .text : {{ *(.text .text.*) }}
  . = ALIGN(16);
  edge_constants_load = .;
  .rodata {constants}: AT(edge_constants_load) {{ *(.rodata .rodata.* .srodata .srodata.*) . = ALIGN(8); }}
  edge_data_image = edge_constants_load + SIZEOF(.rodata);
  edge_data_load = edge_data_image{shift};

  . = {ram:#010x};
  .edge_mailbox (NOLOAD) : {{ KEEP(*(.edge_mailbox)) }}
{stack_in_ram}  .data : AT(edge_data_image)
  {{
    edge_data_start = .;
    *(.data .data.* .sdata .sdata.*)
    . = ALIGN(4);
    edge_data_end = .;
  }}
  .bss (NOLOAD) : ALIGN(8)
  {{
    edge_zero_start = .;
    *(.bss .bss.* .sbss .sbss.*) *(COMMON)
    . = ALIGN(4);
    edge_zero_end = .;
  }}
  .edge_arena (NOLOAD) : ALIGN(16) {{ KEEP(*(.edge_arena)) }}
{stack_apart}
  /DISCARD/ : {{ *(.ARM.exidx*) *(.ARM.extab*) *(.comment) *(.note*) *(.eh_frame*) }}
}}
"""
_STACK = """\
  .edge_stack (NOLOAD) : ALIGN(8) {{ . += {bytes}; }}
  edge_stack_top = ADDR(.edge_stack) + {bytes};
"""


def stack_region(chip: Chip) -> Region:
    """Where the stack stands: next to the core where there is such memory, else beside the arena."""
    close = [region for region in chip.regions if region.kind == "dtcm"]
    return close[0] if close else chip.ram


def linker_script(chip: Chip, stack_bytes: int, bootloader_bytes: int = 0) -> str:
    """The script; the mailbox is first in the arena's memory.

    The stack grows down towards the mailbox, or in memory of its own towards nothing: one that grows too large ends in
    an error on the host, not in wrong results.
    """
    between = chip.data_view - chip.flash.start
    shift = f" {'-' if between < 0 else '+'} {abs(between):#x}" if chip.data_view else ""
    apart = stack_region(chip) != chip.ram
    stack = _STACK.format(bytes=stack_bytes)
    return _SCRIPT.format(
        chip=chip.name,
        flash=chip.flash.start + bootloader_bytes,
        ram=chip.ram.start,
        constants=f"(edge_constants_load{shift}) " if shift else "",
        shift=shift,
        stack_in_ram="" if apart else stack,
        stack_apart=f"  . = {stack_region(chip).start:#010x};\n{stack}" if apart else "",
    )
