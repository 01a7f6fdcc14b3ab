"""A result, and what is written beside it: the page of `--html`, plots, times. It is printed first, and never lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NoReturn

import typer

from normexport.errors import ExitCode
from normexport_cli import failures, options
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working

if TYPE_CHECKING:
    from rich.console import Console

    from normexport.verbs.report import Result


@dataclass(frozen=True)
class PageOptions:
    """Where the page goes."""

    PANEL: ClassVar = "Output"

    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the result as a page for a browser too.")
    ] = None


@dataclass(frozen=True)
class PagedOutputOptions(OutputOptions, PageOptions):
    """How a command shows what it found, on the terminal and as a page."""


def require_page(html: Path | None, inputs: Sequence[Path | None]) -> None:
    """Refuse, before work is done for it, a page that can't be written or would take the place of an input.

    Raises:
        UsageError: see `check_outputs`.
    """
    if html is None:
        return
    from normexport.io.atomic import check_writable
    from normexport.io.overwriting import check_outputs

    options.require_file_name(html)
    check_writable(html.parent)
    check_outputs([(html, "the page")], [(path, "an input") for path in inputs if path is not None])


def write_page(
    result: Result, html: Path | None, drawn: Path | None, weights_under: Path | None, title: str | None = None
) -> None:
    """Write the page, with the network of `drawn` where that is an ONNX file; nothing without `html`."""
    if html is None:
        return
    from normexport.verbs.report import report

    model = drawn if drawn is not None and options.is_onnx(drawn) else None
    report(result, html, model=model, title=title, weights_under=weights_under)


def tell(
    shown: OutputOptions,
    as_dict: Callable[[], Mapping[str, Any]],
    show: Callable[[Console], None],
    *writers: Callable[[], None],
) -> tuple[Exception, ...]:
    """Print a result, then write what goes beside it: whatever can't be written takes nothing else away.

    Returns what kept some of it from being told, for `end`.
    """
    troubles = list[Exception]()
    try:
        if shown.json:
            print_json(as_dict())
        else:
            show(result_console())
    except Exception as error:  # such as a full disk behind stdout: the files may go to another
        troubles.append(error)
    with working("Writing", shown):
        for write in writers:
            try:
                write()
            except Exception as error:  # a drawing library can raise anything
                troubles.append(error)
    return tuple(troubles)


def end(code: ExitCode, troubles: Sequence[Exception], debug: bool) -> NoReturn:
    """Leave with the exit code of the result; with that of the first trouble where only what lies beside it is wrong.

    Raises:
        Exit: always.
    """
    for trouble in troubles:
        told = failures.report(trouble, as_json=False, debug=debug)
        code = told if code is ExitCode.GOOD else code
    raise typer.Exit(code)
