"""Plots as SVG inside a page: horizontal bars, which need no library to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_NAMES = 300
_BARS = 420
_TEXTS = 210
_ROW = 22
_LONGEST_NAME = 44


@dataclass(frozen=True)
class Bar:
    """One row of a plot: `part` of `whole` is filled, the rest is drawn pale; `text` stands behind it."""

    name: str
    part: float
    whole: float
    text: str


def bar_plot(bars: Sequence[Bar]) -> str:
    """One bar a row, all on one scale that starts at 0."""
    top = max((max(bar.part, bar.whole) for bar in bars), default=0.0) or 1.0
    width, height = _NAMES + _BARS + _TEXTS, _ROW * len(bars)
    rows = "".join(_row(bar, index * _ROW, _BARS / top) for index, bar in enumerate(bars))
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{rows}</svg>'


def kept_plot(rows: Sequence[tuple[str, float, float]], write: Callable[[float], str]) -> str:
    """What is kept of each (name, kept, original)."""
    return bar_plot([Bar(name, kept, whole, _kept_text(kept, whole, write)) for name, kept, whole in rows])


def _kept_text(kept: float, whole: float, write: Callable[[float], str]) -> str:
    return write(kept) if kept >= whole else f"{write(kept)} of {write(whole)}"


def _row(bar: Bar, top: int, scale: float) -> str:
    middle = top + _ROW - 7
    whole, part = (f"{max(0.0, value) * scale:.1f}" for value in (max(bar.whole, bar.part), bar.part))
    behind = _NAMES + float(whole) + 6
    rectangle = '<rect class="{kind}" x="{left}" y="{top}" width="{width}" height="{height}"/>'
    shapes = [
        rectangle.format(kind=kind, left=_NAMES, top=top + 4, width=width, height=_ROW - 8)
        for kind, width in (("whole", whole), ("part", part))
    ]
    return (
        f"<g><title>{escape(bar.name)}: {escape(bar.text)}</title>"
        f'<text x="{_NAMES - 6}" y="{middle}" text-anchor="end">{escape(_short(bar.name))}</text>'
        f'{"".join(shapes)}<text x="{behind:.1f}" y="{middle}">{escape(bar.text)}</text></g>'
    )


def _short(name: str) -> str:
    """The end of a long name: that is where layers differ."""
    return name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :]
