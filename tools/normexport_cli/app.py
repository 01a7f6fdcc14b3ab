"""The application: its commands, `--version`, and one place where every failure becomes a line and an exit code.

Exit codes: 0 good, 1 parity failed, 2 usage, 3 checkpoint not understood, 4 export or fold refused, 5 engine build
failed, 6 a needed component is missing, 70 a bug in normexport, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from normexport_cli.build import build
from normexport_cli.convert import convert
from normexport_cli.evaluate import evaluate
from normexport_cli.export import export
from normexport_cli.failures import INTERRUPTED, report
from normexport_cli.fold import fold
from normexport_cli.help import CommandWithChoices
from normexport_cli.inspect import inspect
from normexport_cli.parity import parity
from normexport_cli.plugins import app as plugins
from normexport_cli.run import run
from normexport_cli.screen import surviving_broken_pipes
from normexport_cli.version import version_line

_SUMMARY = """
Ship networks trained with L1, Linf, Top-k or Range norms: folded, as portable ONNX, proven against PyTorch.

\b
  normexport inspect model.pt2
  normexport convert model.pt2 -o out
  normexport convert weights.pth --model resnet:resnet18 --input 3x224x224
"""

_EXIT_CODES = (
    "Exit codes: 0 good, 1 parity failed, 2 usage, 3 checkpoint not understood, 4 export or fold refused, "
    "5 engine build failed, 6 a needed component is missing, 70 a bug in normexport, 130 interrupted."
)


class Root(TyperGroup):
    """The group of all commands. Runs one and turns whatever it raises into one line and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's: exits the process, or returns the exit code with `standalone_mode=False`."""
        standalone = kwargs.pop("standalone_mode", True)
        given = kwargs.get("args", args[0] if args else None)
        words: Sequence[str] = sys.argv[1:] if given is None else given
        with surviving_broken_pipes():
            code = self._run(words, *args, **kwargs)
        if standalone:
            sys.exit(code)
        return code

    def _run(self, words: Sequence[str], *args: Any, **kwargs: Any) -> int:
        try:
            returned = super().main(*args, **{**kwargs, "standalone_mode": False})
        except typer.Exit as leaving:
            return leaving.exit_code
        except SystemExit:  # of rich, when a reader of --help left early; user code's is an error of its own
            return 0
        except (typer.Abort, KeyboardInterrupt):
            returned = INTERRUPTED
        except Exception as error:
            return report(error, as_json="--json" in words, debug="--debug" in words)
        if returned == INTERRUPTED:
            sys.stderr.write("interrupted\n")
        return returned if isinstance(returned, int) else 0


app = typer.Typer(
    name="normexport",
    cls=Root,
    help=_SUMMARY,
    epilog=_EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(version_line() + "\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_print_version, is_eager=True, help="Print versions and leave."),
    ] = False,
) -> None:
    """What runs before every command: nothing, but the bare `normexport` prints its help."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


for _command in (inspect, convert, export, fold, build, run, parity, evaluate):
    app.command(cls=CommandWithChoices)(_command)
app.add_typer(plugins)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="normexport")
