"""The verb `report`: a result as a page for a browser, one file that needs nothing beside it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from normexport.errors import NormExportError, UsageError
from normexport.io.atomic import write_text
from normexport.io.json_files import BadJson, read_json
from normexport.io.onnx_model import opened_model
from normexport.io.overwriting import check_outputs
from normexport.logs import logger
from normexport.reports import Conversion, page
from normexport.text import first_line, printable

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from normexport.verbs.clock import Clock

    Model: TypeAlias = str | Path | onnx.ModelProto | ir.Model

REPORT, PAGE, MODEL = "report.json", "report.html", "model.onnx"

_LOG = logger(__name__)


class Result(Protocol):
    """What a verb returned, if it can be told as JSON."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        ...


def report(
    source: str | Path | Result,
    output: str | Path | None = None,
    *,
    model: Model | None = None,
    title: str | None = None,
    weights_under: str | Path | None = None,
) -> Path:
    """Write the page of a result, to be opened in any browser; returns the file.

    Args:
        source: what `convert`, `parity`, `evaluate`, `bench` or `inspect` returned; a JSON file of it (`--json`,
            `report.json`); or the folder that `convert` wrote, of which `model.onnx` is drawn.
        output: the HTML file; None: `report.html` in the folder, or the name of the JSON file with .html.
        model: an ONNX model or file to draw as the network.
        title: what was judged, such as "new.onnx against model.pt2"; None: what the report calls it.
        weights_under: a folder in which external data of `model` may lie too, as `open_onnx` takes it.

    Raises:
        UsageError: there is no such report, or it is none; the output is an input, or can't be written.
    """
    if not isinstance(source, str | Path):
        if output is None:
            raise UsageError("report", "has no file to write to", "give output")
        return _write(page_of(source.as_dict(), _drawn(model, weights_under), title=title), Path(output), _given(model))
    path = Path(source)
    file = path / REPORT if path.is_dir() else path
    if path.is_dir() and model is None and (path / MODEL).is_file():
        model = path / MODEL
    target = Path(output) if output is not None else path / PAGE if path.is_dir() else path.with_suffix(".html")
    inputs = [(file, "the report"), *_given(model)]
    check_outputs([(target, "the page")], inputs)
    folder = path if path.is_dir() else None
    try:
        content = page_of(read_json(file), _drawn(model, weights_under), folder, title=title, live=False)
    except BadJson as error:
        raise UsageError(
            str(file), f"is not a report ({error})", "name a report.json, or the folder it is in"
        ) from error
    return _write(content, target, inputs)


def write_conversion_report(conversion: Conversion, folder: Path, clock: Clock) -> Conversion:
    """Write `report.json` and `report.html` into the folder of a conversion's files; returns it as they tell it.

    A page shows a result and is none: whatever goes wrong in making it, the conversion says in `no_page`, and neither
    it nor `report.json` names a page then.
    """
    write_text(folder / REPORT, _json(conversion))
    try:
        with clock.stage("report"):
            write_text(folder / PAGE, page_of(conversion.as_dict(), opened_model(folder / MODEL), folder))
    except Exception as error:  # see above: no page is worth a conversion
        _LOG.info("no page: %s", _why(error), exc_info=error)
        named = tuple(file for file in conversion.files if file.name != PAGE)
        without = replace(conversion, files=named, no_page=_why(error))
        try:
            write_text(folder / REPORT, _json(without))
        except UsageError:  # the disk is full; the report that is there names a page too many
            _LOG.info("%s names a page that is not there", REPORT)
        return without
    return conversion


def remove_page(page: Path) -> None:
    """Remove the page of the files before: it would stand beside those of another conversion."""
    with contextlib.suppress(OSError):
        page.unlink(missing_ok=True)


def _json(conversion: Conversion) -> str:
    return json.dumps(conversion.as_dict(), indent=1, allow_nan=False) + "\n"


def _why(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, NormExportError):
        return printable(f"{error.place}: {error.cause}")
    return printable(f"{type(error).__name__}: {first_line(error)}")


def page_of(
    result: Mapping[str, Any],
    model: ir.Model | None = None,
    folder: Path | None = None,
    *,
    title: str | None = None,
    live: bool = True,
) -> str:
    """The HTML of a result.

    Args:
        result: as its `as_dict` or its JSON has it.
        model: the network to draw.
        folder: where the files lie that it names, whose sizes and digests are to be shown.
        title: what was judged; None: what the result calls it.
        live: whether it was made just now, by the versions that are installed.

    Raises:
        BadJson: it is no result.
    """
    document = page.read_document(page.json_of(result))
    document = document if title is None else replace(document, name=title)
    network = None
    if model is not None:
        out = page.out_of_budget(document), page.outputs_out_of_budget(document)
        network = page.read_network(model, document.norms, page.known_of(document), *out)
    return page.render(
        document,
        network,
        versions=page.versions() if live else (),
        files_beside=() if folder is None else page.files_in(folder, [*{*document.files, REPORT} - {PAGE}]),
    )


def _drawn(model: Model | None, weights_under: str | Path | None) -> ir.Model | None:
    return None if model is None else opened_model(model, weights_under)


def _given(model: Model | None) -> list[tuple[Path, str]]:
    return [(Path(model), "the model")] if isinstance(model, str | Path) else []


def _write(content: str, target: Path, inputs: Sequence[tuple[Path, str]]) -> Path:
    check_outputs([(target, "the page")], inputs)
    write_text(target, content)
    return target
