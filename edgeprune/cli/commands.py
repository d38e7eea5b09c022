"""Every verb of the command line, one a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import edgeprune
from edgeprune.cli.advise import advise_verb
from edgeprune.cli.bench import bench_verb
from edgeprune.cli.boards import boards_verb
from edgeprune.cli.compile import compile_verb
from edgeprune.cli.demo import demo_verb
from edgeprune.cli.deploy import deploy_verb
from edgeprune.cli.eval import eval_verb
from edgeprune.cli.export import export_verb
from edgeprune.cli.failures import unknown_verb
from edgeprune.cli.flash import flash_verb
from edgeprune.cli.inspect import inspect_verb
from edgeprune.cli.profiles import profiles_verb
from edgeprune.cli.prune import prune_verb
from edgeprune.cli.report import report_verb
from edgeprune.cli.road_command import road_command
from edgeprune.cli.run import run_verb
from edgeprune.cli.sweep import sweep_verb
from edgeprune.cli.targets import targets_verb
from edgeprune.cli.verify import verify_verb

_INTERRUPTED = 130
"""What typer makes of KeyboardInterrupt."""


class _Verbs(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands and not ctx.resilient_parsing:
            raise unknown_verb(args[0], list(self.commands))
        return super().resolve_command(ctx, args)


def build_app() -> typer.Typer:
    """The command line as a typer application: one verb a file."""
    app = typer.Typer(
        name="edgeprune",
        cls=_Verbs,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    )
    app.callback()(_root)
    app.command("compile")(road_command(compile_verb))
    app.command("prune")(road_command(prune_verb))
    app.command("advise")(advise_verb)
    app.command("eval")(eval_verb)
    app.command("run")(run_verb)
    app.command("bench")(bench_verb)
    app.command("deploy")(deploy_verb)
    app.command("flash")(flash_verb)
    app.command("export")(export_verb)
    app.command("verify")(verify_verb)
    app.command("inspect")(inspect_verb)
    app.command("report")(report_verb)
    app.command("targets")(targets_verb)
    app.command("boards")(boards_verb)
    app.command("profiles")(profiles_verb)
    app.command("sweep")(sweep_verb)
    app.command("demo")(demo_verb)
    return app


def run_app(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; failures are raised, an interrupt as KeyboardInterrupt."""
    try:
        code = build_app()(list(arguments), prog_name="edgeprune", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"edgeprune {edgeprune.__version__}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Prune a model so that its zeros become time on a named device, compile it, and measure it there.

    \b
    Start with:
      edgeprune demo
      edgeprune compile model.onnx --data card.toml -o model.edge
      edgeprune bench model.edge --vs onnxruntime
    """
