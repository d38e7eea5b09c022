"""One self-contained HTML page: what is inside a model or package, and what was measured of it, with plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from edgeprune.quantity import bytes_text, count_text, share_text, time_text
from edgeprune.report.plots import Bar, bar_plot, kept_plot

Facts = Mapping[str, Any]

_KINDS = {
    "measured": "measured on that machine",
    "emulated": "instructions counted on an emulated board; no time on a device",
    "predicted": "predicted, not measured",
}
_MOST_LAYERS = 60
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 2em auto; padding: 0 1em; color: #1c2733 }
h1 { font-size: 1.6em } h2 { font-size: 1.15em; margin-top: 2em } table { border-collapse: collapse }
td, th { padding: .2em .8em .2em 0; text-align: left; border-bottom: 1px solid #e3e8ee; overflow-wrap: anywhere }
td.number, th.number { text-align: right; white-space: nowrap } .note { color: #5b6875 }
.warning { background: #fff3d6; padding: .5em .8em } svg { max-width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: #1c2733 } .whole { fill: #d6dee7 } .part { fill: #2a6fb0 }
"""


def report_page(title: str, inspection: Facts, runs: Sequence[Facts] = ()) -> str:
    """The page of `inspection` (the JSON of `inspect`) and `runs` (each the JSON of `bench`); no script, no network."""
    sections = [
        f"<h1>{escape(title)}</h1>",
        *_overview(inspection),
        *_plots(inspection),
        *(part for run in runs for part in _run(run)),
        *_layers(inspection),
        *_provenance(inspection.get("provenance")),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(sections) + "\n</body></html>\n"
    )


def _overview(facts: Facts) -> Iterable[str]:
    told = [facts.get("target"), facts.get("precision"), facts.get("backend")]
    yield f'<p class="note">{escape(", ".join(str(each) for each in told if each))}</p>'
    accuracy = facts.get("accuracy")
    if accuracy is None and facts.get("target"):
        yield '<p class="warning">No accuracy was checked: there was no data card with labelled test rows.</p>'
    rows = [_accuracy_row(accuracy)] if accuracy else []
    pairs = (("weights", "nonzero_weights", "weights"), ("multiply-accumulates", "macs", "dense_macs"))
    for name, part, whole in pairs:
        if facts.get(whole):
            share = share_text(facts[part], facts[whole])
            rows.append((name, count_text(facts[whole]), count_text(facts[part]), share))
    sizes = ("weights_bytes", "weights stored"), ("code_bytes", "code"), ("total_bytes", "total")
    for key, name in (*sizes, ("ram_bytes", "working memory")):
        if facts.get(key) is not None:
            rows.append((name, "", bytes_text(facts[key]), ""))
    yield _table(("", "original", "now", "kept"), rows, numbers=3)


def _accuracy_row(accuracy: Facts) -> tuple[str, str, str, str]:
    name = f"{accuracy['metric']} on {accuracy['samples']} test rows"
    return name, f"{accuracy['before']:.4f}", f"{accuracy['after']:.4f}", ""


def _plots(facts: Facts) -> Iterable[str]:
    layers = [layer for layer in facts.get("layers") or () if layer["dense_macs"]]
    if layers:
        shown = sorted(layers, key=lambda layer: -layer["dense_macs"])[:_MOST_LAYERS]
        kept = [layer for layer in layers if layer in shown]
        yield "<h2>Multiply-accumulates, layer by layer</h2>"
        yield _left_out(len(layers) - len(kept), "layers with the least work are left out")
        yield kept_plot([(layer["name"], layer["macs"], layer["dense_macs"]) for layer in kept], count_text)
    if facts.get("total_bytes"):
        yield "<h2>What the device stores</h2>"
        total = facts["total_bytes"]
        parts = ("weights", facts["weights_bytes"]), ("code", facts["code_bytes"])
        yield bar_plot(
            [Bar(name, size, size, f"{bytes_text(size)}, {share_text(size, total)}") for name, size in parts]
        )


def _run(run: Facts) -> Iterable[str]:
    """One run of `bench`: latency beside the other runtimes, or instructions; then the layers that take most."""
    yield f"<h2>On {escape(str(run['board']))}</h2>"
    yield f'<p class="note">{escape(_KINDS.get(run["kind"], str(run["kind"])))}</p>'
    latency = run.get("latency_ms")
    if latency:
        bars = [_latency_bar("edgeprune", run.get("precision"), latency["median"], None)]
        peers = [peer for peer in run.get("peers") or () if peer.get("latency_ms") is not None]
        bars += [
            _latency_bar(peer["runtime"], peer["precision"], peer["latency_ms"], peer["speedup"]) for peer in peers
        ]
        yield bar_plot(bars)
    rows = [("instructions", f"{run['instructions']:,}")] if run.get("instructions") else []
    if predicted := run.get("predicted_ms"):
        extent = f"{time_text(predicted['low'])} to {time_text(predicted['high'])}"
        rows.append(("predicted time", f"{time_text(predicted['value'])} ({extent}): {predicted['basis']}"))
    if rows:
        yield _table(("", ""), rows)
    yield from _steps(run)


def _latency_bar(runtime: str, precision: Any, milliseconds: float, speedup: float | None) -> Bar:
    behind = "" if speedup is None else f"; edgeprune is {speedup:.2f} times as fast"
    return Bar(f"{runtime} {precision or ''}", milliseconds, milliseconds, time_text(milliseconds) + behind)


def _steps(run: Facts) -> Iterable[str]:
    every = list(run.get("layers") or ())
    key = "time_us" if any(step.get("time_us") is not None for step in every) else "instructions"
    steps = [step for step in every if step.get(key)]
    if not steps:
        return
    total = sum(step[key] for step in steps)
    shown = sorted(steps, key=lambda step: -step[key])[:_MOST_LAYERS]
    yield f"<h3>{'Time' if key == 'time_us' else 'Instructions'} by layer</h3>"
    yield _left_out(len(steps) - len(shown), "layers that take the least are left out")
    write = (lambda value: f"{value:.1f} us") if key == "time_us" else count_text
    bars = [(step["name"], step[key], f"{write(step[key])}, {share_text(step[key], total)}") for step in shown]
    yield bar_plot([Bar(name, amount, amount, text) for name, amount, text in bars])


def _layers(facts: Facts) -> Iterable[str]:
    rows = [
        (
            *(str(layer.get(key) or "") for key in ("name", "op", "pattern")),
            str(layer.get("kernel") or ""),
            share_text(layer.get("density"), 1),
            count_text(layer["macs"]),
        )
        for layer in facts.get("layers") or ()
    ]
    if rows:
        yield "<h2>Layers</h2>"
        yield _table(("layer", "op", "pattern", "kernel", "kept", "MACs"), rows, numbers=2)


def _provenance(provenance: Facts | None) -> Iterable[str]:
    if not provenance:
        return
    versions = ", ".join(f"{name} {version}" for name, version in sorted((provenance.get("versions") or {}).items()))
    rows = [("source sha256", provenance.get("source_sha256")), ("data sha256", provenance.get("data_sha256"))]
    rows += [("seed", provenance.get("seed")), ("versions", versions)]
    yield "<h2>Where it comes from</h2>"
    yield _table(("", ""), [(name, str(value)) for name, value in rows if value not in (None, "")])


def _left_out(count: int, what: str) -> str:
    return f'<p class="note">{count} {escape(what)}.</p>' if count else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A table whose last `numbers` columns are figures."""
    first = len(columns) - numbers
    kinds = ['"number"' if index >= first else '""' for index in range(len(columns))]
    head = "".join(f"<th class={kind}>{escape(name)}</th>" for kind, name in zip(kinds, columns, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td class={kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(kinds: Sequence[str], row: Sequence[str]) -> str:
    return "".join(f"<td class={kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
