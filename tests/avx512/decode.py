"""Machine code to the table of instructions that the emulator executes."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import capstone

ABSENT, VECTOR, MASK, GENERAL, MEMORY = range(5)
NEXT, NONE = 16, 255

_LONG = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"]
_INT = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"] + [f"r{i}d" for i in range(8, 16)]
_GENERAL = {**{name: (i, 8) for i, name in enumerate(_LONG)}, **{name: (i, 4) for i, name in enumerate(_INT)}}
_VECTOR_BYTES = {"x": 16, "y": 32, "z": 64}
_POINTER_BYTES = {
    "byte": 1, "word": 2, "dword": 4, "qword": 8, "xmmword": 16, "ymmword": 32, "zmmword": 64,
}  # fmt: skip
_PREDICATES = ("eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord", "eq_uq", "nge", "ngt", "false", "neq_oq", "ge",
               "gt", "true")  # fmt: skip
_INTEGER_PREDICATES = {"eq": 0, "lt": 1, "le": 2, "neq": 4, "nlt": 5, "nle": 6}
_AVX_VNNI = ("vpdpbusd", "vpdpbusds", "vpdpwssd", "vpdpwssds")
_VFMADD231PS = 0xB8
_IMMEDIATE_FORMS = ("vpermilps", "vpermilpd", "vpermq", "vpermpd")


class Operand(ctypes.Structure):
    """As `struct operand` of emulator.h."""

    _fields_ = [("kind", ctypes.c_uint8), ("number", ctypes.c_uint8), ("bytes", ctypes.c_uint8)]


class Instruction(ctypes.Structure):
    """As `struct instruction` of emulator.h."""

    _fields_ = [
        ("operation", ctypes.c_uint16),
        ("length", ctypes.c_uint8),
        ("count", ctypes.c_uint8),
        ("operands", Operand * 5),
        ("mask", ctypes.c_uint8),
        ("zeroing", ctypes.c_uint8),
        ("repeats", ctypes.c_uint8),
        ("immediate", ctypes.c_uint8),
        ("base", ctypes.c_uint8),
        ("index", ctypes.c_uint8),
        ("index_bytes", ctypes.c_uint8),
        ("scale", ctypes.c_uint8),
        ("displacement", ctypes.c_int64),
    ]


class UndecodedError(Exception):
    """An instruction that the emulator does not know."""


@dataclass(frozen=True)
class Address:
    """base + index * scale + displacement, by register numbers; `index_bytes` where the index is a vector."""

    base: int = NONE
    index: int = NONE
    index_bytes: int = 0
    scale: int = 1
    displacement: int = 0


@dataclass(frozen=True)
class Text:
    """An instruction as a disassembler writes it."""

    mnemonic: str
    operands: str


def disassembled(code: bytes, address: int) -> Iterator[tuple[int, int, Text]]:
    """Every instruction of `code` as its address, length and text; raises UndecodedError where there is none."""
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    reached, end = address, address + len(code)
    while reached < end:
        for place, size, mnemonic, operands in engine.disasm_lite(code[reached - address :], reached):
            reached = place + size
            yield place, size, Text(mnemonic, operands)
        if reached < end:
            size, text = _avx_vnni(engine, code[reached - address :][:15], reached)
            yield reached, size, text
            reached += size


def _avx_vnni(engine: capstone.Cs, code: bytes, address: int) -> tuple[int, Text]:
    """An instruction of AVX-VNNI, which capstone does not know: with another opcode it is one of FMA."""
    prefix = code[0] == 0xC4 and code[1] & 0x1F == 2 and code[2] & 0x83 == 1
    if not prefix or code[3] - 0x50 not in range(len(_AVX_VNNI)):
        raise UndecodedError(f"no instruction at {address:#x}: {code.hex()}")
    known = code[:3] + bytes([_VFMADD231PS]) + code[4:]
    _, size, _, operands = next(engine.disasm_lite(known, address, 1))
    return size, Text(_AVX_VNNI[code[3] - 0x50], operands)


def emulated(code: bytes, text: Text) -> bool:
    """Whether the instruction uses what an older processor may lack: vectors of AVX on, masks, its own name."""
    if text.mnemonic in ("cpuid", "xgetbv", "vzeroupper", "vzeroall"):
        return True
    return code[0] in (0x62, 0xC4, 0xC5) and bool(re.search(r"\b([xyz]mm|k)\d", text.operands))


def decoded(text: Text, length: int, operations: Mapping[str, int]) -> Instruction:
    """The emulator's form of an instruction; raises UndecodedError."""
    found = Instruction(length=length, base=NONE, index=NONE, scale=1)
    parts = [part.strip() for part in re.split(r",(?![^\[]*\])", text.operands) if part.strip()]
    immediate = None
    for part in parts:
        if re.fullmatch(r"-?(0x)?[0-9a-f]+", part):
            immediate = int(part, 0) & 0xFF
        else:
            _add_operand(found, part)
    mnemonic, immediate = _without_predicate(text.mnemonic, immediate)
    if mnemonic in _IMMEDIATE_FORMS and immediate is not None:
        mnemonic += ".imm"
    if mnemonic in ("vmovd", "vmovq"):
        immediate = 8 if mnemonic == "vmovq" else 4
    if mnemonic not in operations:
        raise UndecodedError(f"{text.mnemonic} {text.operands}")
    found.operation = operations[mnemonic]
    found.immediate = immediate or 0
    return found


def _without_predicate(mnemonic: str, immediate: int | None) -> tuple[str, int | None]:
    if match := re.fullmatch(r"vcmp(\w+?)(ps|pd|ss|sd)", mnemonic):
        return f"vcmp{match[2]}", _PREDICATES.index(match[1])
    if immediate is None and (match := re.fullmatch(r"vpcmp(lt|le|neq|nlt|nle)(u?[bwdq])", mnemonic)):
        return f"vpcmp{match[2]}", _INTEGER_PREDICATES[match[1]]
    if match := re.fullmatch(r"vpcmp(eq|lt|le|neq|nlt|nle)(u[bwdq])", mnemonic):
        return f"vpcmp{match[2]}", _INTEGER_PREDICATES[match[1]]
    return mnemonic, immediate


def _add_operand(found: Instruction, part: str) -> None:
    for flag in re.findall(r"\{([^}]*)\}", part):
        if match := re.fullmatch(r"k([1-7])", flag):
            found.mask = int(match[1])
        elif match := re.fullmatch(r"1to(\d+)", flag):
            found.repeats = int(match[1])
        elif flag == "z":
            found.zeroing = 1
        else:
            raise UndecodedError(f"{{{flag}}}")
    bare = re.sub(r"\{[^}]*\}", "", part).strip()
    found.operands[found.count] = _memory(found, bare) if "[" in bare else _register(bare)
    found.count += 1


def _register(name: str) -> Operand:
    if match := re.fullmatch(r"([xyz])mm(\d+)", name):
        return Operand(VECTOR, int(match[2]), _VECTOR_BYTES[match[1]])
    if match := re.fullmatch(r"k(\d)", name):
        return Operand(MASK, int(match[1]), 8)
    if name not in _GENERAL:
        raise UndecodedError(f"operand {name}")
    return Operand(GENERAL, *_GENERAL[name])


def _memory(found: Instruction, text: str) -> Operand:
    match = re.fullmatch(r"(\w+) ptr \[([^\]]*)\]", text)
    if not match:
        raise UndecodedError(f"operand {text}")
    address = Address()
    for sign, term in re.findall(r"([+-]?)\s*([^+\s-]+)", match[2]):
        address = _with_term(address, sign, term)
    for name in ("base", "index", "index_bytes", "scale", "displacement"):
        setattr(found, name, getattr(address, name))
    return Operand(MEMORY, 0, _POINTER_BYTES[match[1]])


def _with_term(address: Address, sign: str, term: str) -> Address:
    name, _, factor = term.partition("*")
    if factor or name[0] in "xyz" or (name in _LONG and address.base != NONE):
        if match := re.fullmatch(r"([xyz])mm(\d+)", name):
            return replace(
                address, index=int(match[2]), index_bytes=_VECTOR_BYTES[match[1]], scale=int(factor or "1", 0)
            )
        return replace(address, index=_LONG.index(name), scale=int(factor or "1", 0))
    if name == "rip":
        return replace(address, base=NEXT)
    if name in _LONG:
        return replace(address, base=_LONG.index(name))
    if re.fullmatch(r"(0x)?[0-9a-f]+", name):
        return replace(address, displacement=address.displacement + int(sign + name, 0))
    raise UndecodedError(f"address {term}")
