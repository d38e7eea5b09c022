"""Results as rich tables, for people who see such figures for the first time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeprune.quantity import bytes_text, count_text, share_text, time_text

if TYPE_CHECKING:
    from rich.table import Table

Facts = Mapping[str, Any]


def fact_table(title: str, facts: Facts) -> Table:
    """One row a fact."""
    table = _table(title, ("", "left"), ("", "left"), header=False)
    for name, value in facts.items():
        table.add_row(_plain(name), _plain(value))
    return table


def name_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Rows of names and what they mean."""
    table = _table(None, *((column, "left") for column in columns))
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    return table


def summary_table(title: str, inspection: Facts) -> Table:
    """What a model or package is, before and after, from the JSON of `inspect`; rows without a figure are left out."""
    table = _table(title, ("", "left"), ("original", "right"), ("now", "right"), ("kept", "right"))
    for row in _summary_rows(inspection):
        if row[1] or row[2]:
            table.add_row(*row)
    return table


def _summary_rows(facts: Facts) -> Iterable[tuple[str, str, str, str]]:
    yield "target", "", _plain(facts.get("target")), ""
    yield "precision", "", _plain(facts.get("precision")), ""
    yield _accuracy_row(facts.get("accuracy"), facts.get("target") is not None)
    weights, nonzero = facts.get("weights"), facts.get("nonzero_weights")
    yield "weights", _shown(weights, count_text), _shown(nonzero, count_text), share_text(nonzero, weights)
    macs, dense = facts.get("macs"), facts.get("dense_macs")
    yield "multiply-accumulates", _shown(dense, count_text), _shown(macs, count_text), share_text(macs, dense)
    removed = facts.get("removed") or {}
    before, after = removed.get("macs_before"), removed.get("macs_after")
    yield "without what never matters", _shown(before, count_text), _shown(after, count_text), share_text(after, before)
    for key, name in (("weights_bytes", "weights stored"), ("code_bytes", "code"), ("total_bytes", "total")):
        yield name, "", _shown(facts.get(key), bytes_text), ""
    whole = (facts.get("bands") or {}).get("whole_ram_bytes")
    yield "working memory", _shown(whole, bytes_text), _shown(facts.get("ram_bytes"), bytes_text), ""


def state_table(inspection: Facts) -> list[Table]:
    """What is kept from one inference to the next, and what `--state` could keep; none where there is neither."""
    rows = [(f"{state['name']}={state['result']}", state, "kept") for state in inspection.get("states") or ()]
    for state in inspection.get("possible_states") or ():
        rows += [(f"{state['name']}={result}", state, "--state would keep it") for result in state["results"]]
    if not rows:
        return []
    table = _table("States", ("input=output", "left"), ("shape", "left"), ("type", "left"), ("", "left"))
    for pair, state, told in rows:
        table.add_row(pair, " x ".join(map(str, state["shape"])), state["dtype"], told)
    return [table]


def _accuracy_row(accuracy: Any, compiled: bool) -> tuple[str, str, str, str]:
    if not accuracy:
        return "accuracy", "", "not checked" if compiled else "", ""
    name = f"{accuracy['metric']} on {accuracy['samples']} test rows"
    return name, _score(accuracy.get("before")), _score(accuracy.get("after")), ""


def spread_table(report: Facts) -> Table:
    """How far the seeds lie apart, from the JSON of `--repeat`: one row a figure that all of them have."""
    rows = report["repeats"]
    title = f"{len(rows)} seeds, {sum(row['met'] for row in rows)} within every limit; seed {report['seed']} is kept"
    names = ("", "left"), ("mean", "right"), ("spread", "right"), ("lowest", "right"), ("highest", "right")
    table = _table(title, *names)
    for name, mean in report["mean"].items():
        write = _writer(name)
        column = [row[name] for row in rows]
        table.add_row(
            name.replace("_", " "),
            write(mean),
            f"± {write(report['spread'][name])}",
            write(min(column)),
            write(max(column)),
        )
    return table


def _writer(name: str) -> Callable[[float], str]:
    if name.endswith("_bytes"):
        return bytes_text
    if name.endswith("_ms"):
        return "{:.4f} ms".format
    return count_text if name == "macs" else "{:.4f}".format


def layer_table(inspection: Facts) -> Table:
    """One row a layer, from the JSON of `inspect`."""
    columns = (
        ("layer", "left"),
        ("op", "left"),
        ("pattern", "left"),
        ("kept", "right"),
        ("MACs", "right"),
        ("kernel", "left"),
    )
    table = _table("Layers", *columns)
    for layer in inspection.get("layers") or ():
        table.add_row(
            _plain(layer["name"]),
            _plain(layer.get("op")),
            _plain(layer.get("pattern") or ""),
            share_text(layer.get("density"), 1),
            _shown(layer.get("macs"), count_text),
            _plain(layer.get("kernel") or ""),
        )
    return table


def latency_table(title: str, bench: Facts) -> Table:
    """The package and its peers, from the JSON of `bench`; a speedup over 1 means that the package is faster."""
    table = _table(
        title, ("runtime", "left"), ("precision", "left"), ("median", "right"), ("speedup", "right"), ("", "left")
    )
    latency = bench.get("latency_ms") or {}
    note = (
        f"{bench.get('kind', '')}; min {time_text(latency['min'])}, p90 {time_text(latency['p90'])}" if latency else ""
    )
    table.add_row("edgeprune", _plain(bench.get("precision") or ""), _latency(latency), "", note)
    for peer in bench.get("peers") or ():
        table.add_row(
            _plain(peer["runtime"]),
            _plain(peer.get("precision") or ""),
            _latency(peer.get("latency_ms")),
            _shown(peer.get("speedup"), "{:.2f}x".format),
            _plain(peer.get("error") or peer.get("note") or ""),
        )
    if instructions := bench.get("instructions"):
        table.add_row("", "", f"{count_text(instructions)} instructions", "", "")
    if predicted := bench.get("predicted_ms"):
        low, high = time_text(predicted["low"]), time_text(predicted["high"])
        note = f"predicted, {low} to {high}: {predicted['basis']}"
        table.add_row("", "", time_text(predicted["value"]), "", _plain(note))
        if energy := bench.get("predicted_mj"):
            told = f"{energy['value']:.3g} mJ predicted, {energy['low']:.3g} to {energy['high']:.3g}"
            table.add_row("", "", "", "", told)
    elif bench.get("unpredicted"):
        table.add_row("", "", "", "", _plain(f"no time is predicted: {bench['unpredicted']}"))
    return table


def slowest_layers_table(bench: Facts, most: int = 10) -> list[Table]:
    """The layers that take the most time, or instructions, or no table where the run was not profiled."""
    every = list(bench.get("layers") or ())
    timed = any(layer.get("time_us") is not None for layer in every)
    key, head = ("time_us", "time") if timed else ("instructions", "instructions")
    layers = [layer for layer in every if layer.get(key) is not None]
    if not layers:
        return []
    total = sum(layer[key] for layer in layers)
    table = _table(f"Slowest of {len(layers)} steps", ("layer", "left"), (head, "right"), ("share", "right"))
    for layer in sorted(layers, key=lambda each: -each[key])[:most]:
        amount = f"{layer[key]:.1f} us" if timed else count_text(layer[key])
        table.add_row(_plain(layer["name"]), amount, share_text(layer[key], total))
    return [table]


def sweep_table(report: Facts) -> Table:
    """One row a job, from the JSON of `sweep`; a star marks what no other job beats."""
    title = f"{report['done']} done, {report['missed']} over a limit, {report['failed']} failed: {report['output']}"
    columns = (
        ("", "left"),
        ("model", "left"),
        ("target", "left"),
        ("options", "left"),
        ("accuracy", "right"),
        ("removed", "right"),
        ("total", "right"),
        ("latency", "right"),
        ("", "left"),
    )
    table = _table(title, *columns)
    same = _common(row["options"] for row in report["rows"])
    for row in report["rows"]:
        options = " ".join(f"{name}={row['options'][name]}" for name in sorted(row["options"]) if name not in same)
        table.add_row(
            "*" if row["pareto"] else "",
            _plain(row["model"].rpartition("/")[2]),
            _plain(row["target"]),
            _plain(options),
            _score(row["accuracy_after"]),
            share_text(row["sparsity"], 1),
            _shown(row["total_bytes"], bytes_text),
            _shown(row["latency_ms"], time_text),
            _plain(_sweep_note(row)),
        )
    table.caption = "* on the Pareto front: no other job is as accurate and faster (or smaller, where no time is known)"
    return table


def _common(options: Iterable[Facts]) -> set[str]:
    """Names of the options that all rows have with one value; none where there is one row alone."""
    rows = list(options)
    names = set(rows[0]) if len(rows) > 1 else set()
    return {name for name in names if all(name in row and row[name] == rows[0][name] for row in rows)}


def _sweep_note(row: Facts) -> str:
    if row["error"]:
        return f"{row['error']['what']} [{row['error']['code']}]"
    return str(row["shortfall"] or row["latency_note"])


def demo_table(report: Facts) -> Table:
    """The original beside what edgeprune made of it."""
    columns = ("", "left"), ("accuracy", "right"), ("weights", "right"), ("latency", "right"), ("speedup", "right")
    table = _table(report["title"], *columns)
    for row in report["rows"]:
        table.add_row(
            _plain(row["name"]),
            share_text(row["accuracy"], 1),
            _shown(row["weights_bytes"], bytes_text),
            _shown(row["latency_ms"], time_text) or f"{count_text(row.get('instructions') or 0)} instructions",
            _shown(row["speedup"], "{:.2f}x".format),
        )
    return table


def _table(title: str | None, *columns: tuple[str, str], header: bool = True) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heading = Text(title, no_wrap=True, overflow="ignore") if title else None
    table = Table(title=heading, title_justify="left", box=box.SIMPLE, show_header=header)
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    return table


def _plain(value: Any) -> Any:
    from rich.text import Text

    if isinstance(value, (list, tuple)):
        value = " ".join(str(each) for each in value)
    return Text("" if value is None else str(value))


def _shown(value: Any, write: Any) -> str:
    return "" if value is None else write(value)


def _score(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def _latency(value: Any) -> str:
    median = value.get("median") if isinstance(value, Mapping) else value
    return "" if median is None else time_text(median)
