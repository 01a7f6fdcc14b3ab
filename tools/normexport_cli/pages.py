"""The option `--html` of what judges and measures: the result as a page, written beside what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, NoReturn

import typer

from normexport.errors import ExitCode
from normexport_cli import failures, options
from normexport_cli.options import OutputOptions

if TYPE_CHECKING:
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
) -> Exception | None:
    """Write the page, with the network of `drawn` where that is an ONNX file; nothing without `html`.

    Returns what kept it from being made: the result is told all the same, and then `end` tells that.
    """
    if html is None:
        return None
    from normexport.verbs.report import report

    model = drawn if drawn is not None and options.is_onnx(drawn) else None
    try:
        report(result, html, model=model, title=title, weights_under=weights_under)
    except Exception as error:  # `end` tells it: no page is worth a result
        return error
    return None


def end(code: ExitCode, trouble: Exception | None, debug: bool) -> NoReturn:
    """Leave with the exit code of the result; with that of the page's trouble where only the page is wrong.

    Raises:
        Exit: always.
    """
    if trouble is not None:
        told = failures.report(trouble, as_json=False, debug=debug)
        code = told if code is ExitCode.GOOD else code
    raise typer.Exit(code)
