"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from normexport.errors import UsageError
from normexport.graphs.export_config import HIGHEST, LOWEST, ExportConfig
from normexport.io.json_files import BadJson, parse_json
from normexport.verbs.config import RUNTIMES
from normexport.verbs.early import check_early
from normexport_cli.help import complete_dialect, one_of

if TYPE_CHECKING:
    from normexport.checkpoint import Checkpoint as LoadedCheckpoint
    from normexport.runtime.tensorrt_runtime import Plan

Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="CKPT",
        help="An exported program (.pt2), a pickled module, or weights: .pt, .safetensors, an index, a folder.",
    ),
]
Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        metavar="SHAPE",
        help="Shape of one sample, once per input: 3x28x28, or ids=128:int64, ids=128:int64[0..999] with the numbers"
        " to try; 3xHxW leaves sizes open, over a range with --input H=32..512:8 beside it. Files know their own.",
    ),
]
Trust = Annotated[bool, typer.Option("--trust", metavar="", help="Load files that run code, from authors you trust.")]
WeightsUnder = Annotated[
    Path | None,
    typer.Option(
        "--weights-under",
        metavar="FOLDER",
        help="Let external data of ONNX files lie in this folder too, behind links: a cache of Hugging Face.",
    ),
]


Runtime = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="RUNTIME",
        help=f"What runs the ONNX file: {' or '.join(RUNTIMES)}, on the CPU.",
        autocompletion=one_of(*RUNTIMES),
    ),
]
Inline = Annotated[
    bool,
    typer.Option("--inline", metavar="", help="Write no functions, for runtimes that know none: OpenVINO, IREE."),
]


FixedWeights = Annotated[
    bool,
    typer.Option(
        "--fixed-weights", metavar="", help="Make constants of weights that an ONNX file lists among its inputs."
    ),
]


@dataclass(frozen=True)
class OutputOptions:
    """How a command shows what it found. `metavar=""` keeps typer from writing that a flag takes a <bool>."""

    PANEL: ClassVar = "Output"

    json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON document instead of tables.")] = False
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", metavar="", count=True, show_default=False, help="Log each step; -vv: more."),
    ] = field(default=0)
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="Show results and errors alone.")] = False
    debug: Annotated[
        bool, typer.Option("--debug", metavar="", help="Show tracebacks, and the warnings of PyTorch and ONNX.")
    ] = False


@dataclass(frozen=True)
class LoadOptions:
    """How to read a checkpoint.

    Raises:
        UsageError: `--model-kwargs` is not a JSON object, or has no `--model` to go to.
    """

    PANEL: ClassVar = "What is read"

    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="M:F", help="The code of a state_dict: package.module:factory. It is imported."
        ),
    ] = None
    model_kwargs: Annotated[
        str | None,
        typer.Option("--model-kwargs", metavar="JSON", help="The factory's arguments: '{\"depth\": 18}'."),
    ] = None
    dialect: Annotated[
        str | None,
        typer.Option(
            "--dialect",
            metavar="D",
            help="How the norms are stored, where the file leaves it open: see normexport dialects.",
            autocompletion=complete_dialect,
        ),
    ] = None
    trust: Trust = False
    unquantised: Annotated[
        bool,
        typer.Option(
            "--unquantised",
            metavar="",
            help="Leave out the fake quantisation of training; what that costs is measured.",
        ),
    ] = False

    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="KEY", help="Of several networks in a checkpoint: the entry that is meant; ema, model."
        ),
    ] = None
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="P.", help="Read only the keys that start with it, and take it off."),
    ] = None
    ignore_keys: Annotated[
        list[str],
        typer.Option("--ignore-keys", metavar="P.", help="Leave out the keys that start with it; repeatable."),
    ] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.model_kwargs is not None and self.model is None:
            raise UsageError("--model-kwargs", "has no --model to go to", "name the factory with --model")
        _ = self.arguments

    @property
    def arguments(self) -> dict[str, Any] | None:
        """The factory's arguments; None where none are given."""
        return _json_object(self.model_kwargs)

    def check_early(
        self,
        *paths: Path | None,
        inputs: Sequence[str] = (),
        data: Sequence[Path | None] = (),
        folders: Sequence[Path] = (),
    ) -> None:
        """Refuse in a moment, before PyTorch is loaded, what can't come to anything; None where nothing is given.

        Raises:
            NormExportError: see `normexport.verbs.early`.
        """
        given = [path for path in paths if path is not None]
        check_early(
            *(path for path in given if not is_plan(path)),
            inputs=inputs,
            data=data,
            plans=[path for path in given if is_plan(path)],
            dialect=self.dialect,
            trust=self.trust,
            folders=folders,
        )

    def load(self, path: Path) -> LoadedCheckpoint:
        """The checkpoint at `path`.

        Raises:
            UsageError: there is no such file, or its code can't be built.
            CheckpointError: it is not understood.
        """
        from normexport.checkpoint import load

        return load(path, **self.keywords())

    def keywords(self) -> dict[str, Any]:
        """The same as keyword arguments of `normexport.load`."""
        from normexport.checkpoint import Part

        return {
            "model": self.model,
            "model_kwargs": self.arguments,
            "dialect": self.dialect,
            "trust": self.trust,
            "unquantised": self.unquantised,
            "part": Part(self.weights, self.prefix, tuple(self.ignore_keys)),
        }


@dataclass(frozen=True)
class ReadOptions(LoadOptions):
    """How to read a checkpoint or an ONNX file."""

    weights_under: WeightsUnder = None

    def load_unless_onnx(self, path: Path) -> LoadedCheckpoint | Path:
        """The checkpoint at `path`; an ONNX file's path as it is."""
        return path if is_onnx(path) else self.load(path)

    def require_reader(self, *paths: Path) -> None:
        """Refuse an option that none of the files has a use for.

        Raises:
            UsageError: names the first such option.
        """
        plans, models = any(map(is_plan, paths)), any(map(is_onnx, paths))
        checkpoints = any(map(is_checkpoint, paths))
        asked: list[tuple[str, object, bool, str]] = [
            ("--model", self.model, checkpoints, "a checkpoint"),
            ("--dialect", self.dialect, checkpoints, "a checkpoint"),
            ("--trust", self.trust, checkpoints or plans, "a checkpoint or a plan"),
            ("--unquantised", self.unquantised, checkpoints, "a checkpoint"),
            ("--weights", self.weights, checkpoints, "a checkpoint"),
            ("--prefix", self.prefix, checkpoints, "a checkpoint"),
            ("--ignore-keys", self.ignore_keys, checkpoints, "a checkpoint"),
            ("--weights-under", self.weights_under, models, "an ONNX file"),
        ]
        for option, given, serves, kind in asked:
            if given and not serves:
                raise UsageError(option, f"means nothing here: it is for {kind}", "leave it out")


@dataclass(frozen=True)
class ExportOptions:
    """What the ONNX file that is written shall be.

    Raises:
        UsageError: a batch that is neither a size nor "dynamic".
    """

    PANEL: ClassVar = "The ONNX file that is written"

    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="N",
            help="Fix the file's batch size, where network or runtime need it; dynamic: refuse one.",
        ),
    ] = None

    opset: Annotated[
        int | None,
        typer.Option(
            "--opset", metavar="N", help=f"The file's operator set, {LOWEST} to {HIGHEST}: 17 for TensorRT 8."
        ),
    ] = None

    input_names: Annotated[
        str | None, typer.Option("--input-names", metavar="A,B", help="What the file calls its inputs, in their order.")
    ] = None
    output_names: Annotated[
        str | None,
        typer.Option("--output-names", metavar="Y,Z", help="What the file calls its outputs, in their order."),
    ] = None

    def __post_init__(self) -> None:
        _ = self.config()

    def config(self) -> ExportConfig:
        """As the library takes it."""
        batch: Any = self.batch
        if batch is not None and batch.isascii() and batch.isdigit() and len(batch) < 10:
            batch = int(batch)
        names = (
            () if given is None else tuple(name.strip() for name in given.split(","))
            for given in (self.input_names, self.output_names)
        )
        return ExportConfig(batch, self.opset, *names)


def is_onnx(path: Path) -> bool:
    """Whether a path is that of an ONNX file, as `normexport.verbs.subjects` has it, which loads more."""
    return path.suffix.lower() == ".onnx"


#: Suffixes that people give to TensorRT plans.
_PLANS = (".plan", ".engine", ".trt")


def is_plan(path: Path) -> bool:
    """Whether a path is that of a TensorRT plan."""
    return path.suffix.lower() in _PLANS


def is_checkpoint(path: Path) -> bool:
    """Whether a path is that of neither an ONNX file nor a plan."""
    return not is_onnx(path) and not is_plan(path)


def load_plan(path: Path, trust: bool) -> Plan:
    """The plan at `path`, not opened yet."""
    from normexport.runtime.tensorrt_runtime import Plan

    return Plan(path, trust)


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
