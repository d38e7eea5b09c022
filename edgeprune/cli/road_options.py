"""The options that `compile` and `prune` share, as the help shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.arguments import complete_board
from edgeprune.cli.profiles import complete_profile
from edgeprune.options import CRITERIA


def complete_criterion(incomplete: str) -> list[str]:
    """The criteria that the shell offers."""
    return [name for name in CRITERIA if name.startswith(incomplete)]


Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write.", show_default=False)]
ForBoard = Annotated[
    str | None,
    typer.Option(
        "--board",
        "-b",
        metavar="BOARD",
        help="What it is for; a microcontroller gets its firmware too.",
        autocompletion=complete_board,
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Presets of a field; `edgeprune profiles` lists. Other options win.",
        autocompletion=complete_profile,
    ),
]
Sparsity = Annotated[float | None, typer.Option(help="Share of the weights to remove, 0 <= F < 1.")]
PatternText = Annotated[str | None, typer.Option(help="What is removed together: 1x1, 1x16, 2:4, 2:4/1x16, channel.")]
Criterion = Annotated[str, typer.Option(help="What judges what may go.", autocompletion=complete_criterion)]
Dense = Annotated[bool, typer.Option("--dense", help="Remove nothing.")]
Precision = Annotated[str, typer.Option(help="auto, fp32, int8, or fp16 where the target has it.")]
MaxDrop = Annotated[float | None, typer.Option(metavar="POINTS", help="Accuracy it may cost. [default: 1.0]")]
Latency = Annotated[float | None, typer.Option(metavar="MS", help="Budget: milliseconds an inference.")]
Size = Annotated[str | None, typer.Option(metavar="BYTES", help="Budget: weights and code, as 64k.")]
Ram = Annotated[str | None, typer.Option(metavar="BYTES", help="Budget: working memory, as 1.5M.")]
Energy = Annotated[float | None, typer.Option(metavar="MJ", help="Budget: millijoules an inference.")]
Epochs = Annotated[int | None, typer.Option(help="Recovery training; 0 = none, one shot.")]
Minutes = Annotated[float | None, typer.Option(help="Wall clock that recovery training may take.")]
Permute = Annotated[
    bool, typer.Option("--permute/--no-permute", help="Let channels change their order so that blocks lose less.")
]
States = Annotated[
    list[str] | None,
    typer.Option(
        "--state", metavar="IN=OUT", help="An input that is this output in the next inference: kept inside; repeatable."
    ),
]
Backend = Annotated[str, typer.Option(help="tvm. (tflite is refused: it lowers nothing yet.)")]
Seed = Annotated[int, typer.Option(help="Makes a run repeatable.")]
Repeat = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Run N seeds from --seed on; show mean and spread, write the best on validate rows.",
    ),
]
BestEffort = Annotated[
    bool, typer.Option("--best-effort", help="Write the result even if a budget or the limit is missed.")
]
