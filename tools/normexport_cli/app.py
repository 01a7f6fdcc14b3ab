"""The application: its commands, `--version`, and one place where every failure becomes a line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.main import get_group

from normexport.errors import ExitCode, UsageError
from normexport_cli import stopping
from normexport_cli.failures import report
from normexport_cli.groups import grouped
from normexport_cli.help import CommandWithChoices, Group, show_help_alone
from normexport_cli.options import OutputOptions
from normexport_cli.screen import survive_narrow_encodings, surviving_broken_pipes

_SUMMARY = """
Ship networks trained with L1, Linf, Top-k or Range norms: folded, as portable ONNX, proven against PyTorch.

\b
  normexport inspect model.pt2
  normexport convert model.pt2 -o out
  normexport convert weights.pth --model resnet:resnet18 --input 3x224x224
"""

_EXIT_CODES = (
    f"Exit codes: {', '.join(f'{code} {code.meaning}' for code in ExitCode if code <= ExitCode.BUG)}, "
    f"{ExitCode.HUNG_UP}, {ExitCode.INTERRUPTED} or {ExitCode.TERMINATED} ended by SIGHUP, Ctrl-C or SIGTERM."
)

#: In the order of the help. Each is the module `normexport_cli.NAME`, with a function NAME or a group `app`.
COMMANDS = (
    "inspect",
    "convert",
    "calibrate",
    "export",
    "fold",
    "build",
    "run",
    "parity",
    "bisect",
    "prove",
    "sign",
    "verify",
    "evaluate",
    "bench",
    "report",
    "dialects",
    "plugins",
)


class _Commands(Mapping[str, Any]):
    """Name -> command, made when it is asked for: to make all of them takes 60 ms."""

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        module, group = import_module(f"normexport_cli.{name}"), typer.Typer()
        if hasattr(module, "app"):
            group.add_typer(module.app)
        else:
            group.command(cls=CommandWithChoices)(getattr(module, name))
        return get_group(group).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Root(Group):
    """The group of all commands. Runs one and turns whatever it raises into one line and an exit code."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "commands": _Commands()})

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's: exits the process, or returns the exit code with `standalone_mode=False`."""
        standalone = kwargs.pop("standalone_mode", True)
        given = kwargs.get("args", args[0] if args else None)
        words: Sequence[str] = sys.argv[1:] if given is None else given
        survive_narrow_encodings()
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
        except SystemExit as leaving:
            if _is_of_help(leaving):
                return ExitCode.GOOD
            error = UsageError("the model's code", f"called sys.exit({leaving.code!r})", "take that out of its forward")
            return report(error, as_json="--json" in words, debug="--debug" in words)
        except (typer.Abort, KeyboardInterrupt):
            returned = ExitCode.INTERRUPTED
        except Exception as error:  # an error of ours, or a bug: both are told
            if not stopping.is_stopped():
                return report(error, as_json="--json" in words, debug="--debug" in words)
            returned = ExitCode.INTERRUPTED
        if returned == ExitCode.INTERRUPTED:
            return stopping.say_stopped()
        return returned if isinstance(returned, int) else ExitCode.GOOD


def _is_of_help(leaving: SystemExit) -> bool:
    """Whether rich or typer ended the process, as a reader of --help left early; what a forward raises is an error."""
    trace, module = leaving.__traceback__, ""
    while trace is not None:
        module, trace = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_next
    return module.partition(".")[0] in ("rich", "typer")


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
        from normexport_cli.version import version_line

        if sys.stdout.isatty():  # no word is cut in two
            from normexport_cli.screen import result_console

            result_console().print(version_line(), markup=False)
        else:
            sys.stdout.write(version_line() + "\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
@grouped
def root(
    context: typer.Context,
    *,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_print_version, is_eager=True, help="Print versions and leave."),
    ] = False,
    shown: OutputOptions,
) -> None:
    """What runs before every command: nothing, but the bare `normexport` prints its help."""
    show_help_alone(context)
