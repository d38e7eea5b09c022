"""Numbers as people read them: bytes, counts, shares, durations."""

from __future__ import annotations


def bytes_text(count: float) -> str:
    """A byte count: 812 B, 64.0 kB, 1.5 MB (powers of 1024)."""
    if count < 1024:
        return f"{count:.0f} B"
    return f"{count / 1024:.1f} kB" if count < 1024**2 else f"{count / 1024**2:.2f} MB"


def count_text(count: float) -> str:
    """A large count: 812, 40.8 M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:.0f}"


def share_text(part: float | None, whole: float | None) -> str:
    """A share in percent, or nothing where it is not known."""
    return f"{100 * part / whole:.1f} %" if part is not None and whole else ""


def time_text(milliseconds: float) -> str:
    """A duration in milliseconds: 0.038 ms, 12.5 ms; below 0.01 ms in us."""
    if milliseconds < 0.01:
        return f"{1000 * milliseconds:.2f} us"
    return f"{milliseconds:.3f} ms" if milliseconds < 10 else f"{milliseconds:.1f} ms"
