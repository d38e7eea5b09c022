"""Operators that change how numbers are stored."""

from __future__ import annotations

from edgeprune.frontend.tflite.call import Call


def same_numbers(call: Call) -> None:
    """QUANTIZE, DEQUANTIZE, DENSIFY: values here are real and dense, so that only what the output stores rounds."""
    order = call.order(0)
    call.put_moved(call.get(0, order), order)


def fake_quant(call: Call) -> None:
    """Rounds to 2 ** bits - 1 steps between two numbers, moved a little so that zero is one of them."""
    order = call.order(0)
    bits = int(call.option("NumBits"))
    lowest, highest = float(call.option("Min")), float(call.option("Max"))
    first, last = (1 if call.option("NarrowRange") else 0), (1 << bits) - 1 if 2 <= bits <= 16 else 0
    if not lowest <= 0 <= highest or lowest == highest or last <= first:
        raise call.corrupt(f"{bits} bits between {lowest} and {highest}")
    scale = (highest - lowest) / (last - first)
    zero = min(max(round(first - lowest / scale), first), last)
    kept = call.add(
        "Clip", call.get(0, order), call.constant((first - zero) * scale), call.constant((last - zero) * scale)
    )
    steps = call.add("Floor", call.add("Add", call.add("Div", kept, call.constant(scale)), call.constant(0.5)))
    call.put(call.add("Mul", steps, call.constant(scale)), order)
