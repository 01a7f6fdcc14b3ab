"""The verb `report`: a result as a page for a browser, one file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from normexport.errors import UsageError
from normexport.io.atomic import write_text
from normexport.io.json_files import BadJson, read_json
from normexport.io.onnx_model import opened_model
from normexport.io.overwriting import check_outputs
from normexport.reports import page

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    Model: TypeAlias = str | Path | onnx.ModelProto | ir.Model

REPORT, PAGE, MODEL = "report.json", "report.html", "model.onnx"


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
        source: what `convert`, `parity`, `evaluate` or `bench` returned; a JSON file of it (`--json`, `report.json`);
            or the folder that `convert` wrote, of which `model.onnx` is drawn.
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
    network = (
        None
        if model is None
        else page.read_network(model, document.norms, page.known_of(document), page.out_of_budget(document))
    )
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
