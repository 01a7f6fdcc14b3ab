"""Arguments and options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from normexport.errors import UsageError
from normexport.io.json_files import BadJson, parse_json
from normexport_cli.help import complete_dialect

if TYPE_CHECKING:
    from normexport.checkpoint import Checkpoint as LoadedCheckpoint
    from normexport.runtime.tensorrt_runtime import Plan

Checkpoint = Annotated[
    Path,
    typer.Argument(metavar="CKPT", help="An exported program (.pt2), a pickled module or a state_dict."),
]
Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="SHAPE",
        help="Shape of one sample, once per input: 3x28x28, or ids=128:int64, ids=128:int64[0..999] with the numbers"
        " to try. Files know their own.",
    ),
]
Batches = Annotated[
    str | None,
    typer.Option(
        "--batches", metavar="SIZES", help="Batch sizes to compare at: 1,8. By default 1, 2 and 7, or fitting."
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", metavar="M:F", help="The code of a state_dict: package.module:factory. It is imported."),
]
ModelKwargs = Annotated[
    str | None,
    typer.Option("--model-kwargs", metavar="JSON", help="The factory's arguments: '{\"depth\": 18}'."),
]
Dialect = Annotated[
    str | None,
    typer.Option(
        "--dialect",
        metavar="D",
        help="How the norms are stored, where the file leaves it open; listed below.",
        autocompletion=complete_dialect,
    ),
]
Trust = Annotated[bool, typer.Option("--trust", metavar="", help="Load files that run code, from authors you trust.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="FILE.npz", help="Real inputs to compare on too: one array per input, by its name."),
]
WeightsUnder = Annotated[
    Path | None,
    typer.Option(
        "--weights-under",
        metavar="FOLDER",
        help="Let external data of ONNX files lie in this folder too, behind links: a cache of Hugging Face.",
    ),
]
#: `metavar=""` keeps typer from writing that a flag takes a <bool>.
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document instead of tables.")]
Debug = Annotated[
    bool, typer.Option("--debug", metavar="", help="Show tracebacks, and the warnings of PyTorch and ONNX.")
]


@dataclass(frozen=True)
class LoadOptions:
    """How to read a checkpoint, as the library's `load` takes it."""

    model: str | None
    model_kwargs: dict[str, Any] | None
    dialect: str | None
    trust: bool

    @classmethod
    def of(cls, model: str | None, model_kwargs: str | None, dialect: str | None, trust: bool) -> LoadOptions:
        """From the words of the command line, before anything slow is imported.

        Raises:
            UsageError: `--model-kwargs` is not a JSON object, or has no `--model` to go to.
        """
        if model_kwargs is not None and model is None:
            raise UsageError("--model-kwargs", "has no --model to go to", "name the factory with --model")
        return cls(model, _json_object(model_kwargs), dialect, trust)

    def load(self, path: Path) -> LoadedCheckpoint:
        """The checkpoint at `path`.

        Raises:
            UsageError: there is no such file, or its code can't be built.
            CheckpointError: it is not understood.
        """
        from normexport.checkpoint import load

        return load(path, model=self.model, model_kwargs=self.model_kwargs, dialect=self.dialect, trust=self.trust)

    def load_unless_onnx(self, path: Path) -> LoadedCheckpoint | Path:
        """The checkpoint at `path`; an ONNX file's path as it is."""
        return path if path.suffix.lower() == ".onnx" else self.load(path)


#: Suffixes that people give to TensorRT plans.
_PLANS = (".plan", ".engine", ".trt")


def is_plan(path: Path) -> bool:
    """Whether a path is that of a TensorRT plan."""
    return path.suffix.lower() in _PLANS


def load_plan(path: Path, trust: bool) -> Plan:
    """The plan at `path`, not opened yet."""
    from normexport.runtime.tensorrt_runtime import Plan

    return Plan(path, trust)


def batch_sizes(text: str | None) -> tuple[int, ...] | None:
    """ "1,8" as numbers.

    Raises:
        UsageError: it is not that.
    """
    if text is None:
        return None
    sizes = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < len(part) < 10 and int(part) for part in sizes):
        raise UsageError(f"--batches {text}", "is not a list of batch sizes", "write it as 1,8")
    return tuple(dict.fromkeys(int(part) for part in sizes))


def require_file_name(output: Path) -> None:
    """Refuse an output that is there and no regular file: writing renames over it, over /dev/null too.

    Raises:
        UsageError: it is a folder or a device.
    """
    if output.is_dir():
        raise UsageError(str(output), "is a folder", "name the file to write, e.g. -o folder/model.onnx")
    if output.exists() and not output.is_file():
        raise UsageError(str(output), "is not a regular file", "name another file with -o")


def _json_object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    example = "write it as '{\"depth\": 18}'"
    try:
        found = parse_json(text)
    except BadJson as error:
        raise UsageError("--model-kwargs", f"is not JSON ({error})", example) from error
    if not isinstance(found, dict):
        raise UsageError("--model-kwargs", "is not a JSON object", example)
    return found
