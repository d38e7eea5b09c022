"""The `edgeprune` command: the only place that catches errors and exits."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import edgeprune
from edgeprune.cli.advise import advise_verb
from edgeprune.cli.bench import bench_verb
from edgeprune.cli.boards import boards_verb
from edgeprune.cli.compile import compile_verb
from edgeprune.cli.console import show_error
from edgeprune.cli.demo import demo_verb
from edgeprune.cli.deploy import deploy_verb
from edgeprune.cli.eval import eval_verb
from edgeprune.cli.export import export_verb
from edgeprune.cli.failures import failure, unknown_verb
from edgeprune.cli.flash import flash_verb
from edgeprune.cli.inspect import inspect_verb
from edgeprune.cli.profiles import profiles_verb
from edgeprune.cli.prune import prune_verb
from edgeprune.cli.report import report_verb
from edgeprune.cli.road import road_command
from edgeprune.cli.run import run_verb
from edgeprune.cli.sweep import sweep_verb
from edgeprune.cli.targets import targets_verb
from edgeprune.cli.verify import verify_verb
from edgeprune.errors import EdgepruneError

_USAGE = 2
_INTERRUPTED = 130


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


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every failure becomes one error."""
    as_json = "--json" in arguments
    try:
        code = build_app()(list(arguments) or ["--help"], prog_name="edgeprune", standalone_mode=False)
        code = code if arguments else _USAGE
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        _trace(error)
        shown = failure(error)
        _show(shown, as_json)
        return shown.exit_code
    if code == _INTERRUPTED:
        _show(EdgepruneError("interrupted", "interrupted, nothing was written"), as_json)
    return code if isinstance(code, int) else 0


def main() -> None:
    """Run the command line of this process and exit with its code."""
    if not _debugging():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # training threads that spin stall a machine that is shared
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run_command(sys.argv[1:]))


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


def _show(error: EdgepruneError, as_json: bool) -> None:
    try:
        show_error(error, as_json=as_json)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        show_error(error, as_json=False)


def _debugging() -> bool:
    return os.environ.get("EDGEPRUNE_DEBUG", "") not in ("", "0")


def _trace(error: Exception) -> None:
    if _debugging():
        traceback.print_exception(error)
