"""How to convert: the config of the longest verb, which loads nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normexport.bundle.kinds import KINDS
from normexport.capsule.size import MOST_BYTES
from normexport.dtypes import CONVOLVED_FROM, FLOAT8, FLOAT8_FROM
from normexport.engine.config import EngineConfig
from normexport.errors import UsageError
from normexport.graphs.export_config import ExportConfig
from normexport.io.preprocess import Preprocess
from normexport.precision.config import ALL, PLACEMENTS, Draw, EightBit, Half

#: What an ONNX file can be proven on, on this machine's CPU.
RUNTIMES = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class ConvertConfig:
    """How to convert.

    Attributes:
        fold: fold norms; False leaves them as operators with bodies.
        data: real inputs, judged beside the random ones: an .npz file, or a folder of images or .npy files, which may
            have a subfolder for each class.
        draw: which of the samples of `data` are meant, and of `Int8.calibration` unless that says so itself.
        batches: batch sizes at which parity is judged; None: 1, 2 and 7, or what the model takes.
        engine: build a TensorRT plan of the file too, unless parity has failed.
        precision: reduce the folded model to half precision, int8 or fp8; None: float32. For an engine int8 is
            symmetric, and what is not in eight bits is float16 where nobody says otherwise.
        capsule: the file to write a capsule to, for `normexport prove` elsewhere; unless something failed.
        capsule_bytes: most bytes of the arrays in it.
        bundle: write a folder from which the model is served below the output: one of
            `normexport.bundle.kinds.KINDS`.
        bundle_name: what the server calls the model; None: as its file is called.
        bom: write a bill of materials (CycloneDX) beside the model, model.cdx.json.
        labels_for: the output that the labels of `data` belong to; None: the only one that they fit.
        metric: what labels are compared by: one of `METRICS`, "package.module:function", or function(output, labels)
            -> number with an attribute `lower_is_better` where it is; None: top1, or iou of maps of classes.
        runtime: what the file is proven on, "onnxruntime" or "openvino"; int8 is calibrated on the former all the same.
        openvino: write the model as OpenVINO's own files too, model.xml and model.bin.
        inline: write a file without functions, for runtimes that know none.
        fixed_weights: weights that an ONNX file lists among its inputs become constants, which a caller could override.
        weights_under: a folder in which external data of an ONNX file may lie too, as `open_onnx` takes it.
        export: what the ONNX file shall be: a fixed batch, at which it is proven, its operator set, names.
        preprocess: what is done to the images of `data`, and of `Int8.calibration` unless that says so itself; None:
            values in [0, 1] at the model's size.

    Raises:
        UsageError: `precision`, `engine` or `export` is something else, such as a name; `batches` beside a fixed batch,
            `inline` beside an engine, bfloat16 in an operator set that does not have it.
    """

    fold: bool = True
    data: str | Path | None = None
    draw: Draw = ALL
    batches: tuple[int, ...] | None = None
    engine: EngineConfig | None = None
    precision: Half | EightBit | None = None
    capsule: str | Path | None = None
    capsule_bytes: int = MOST_BYTES
    bundle: str | None = None
    bundle_name: str | None = None
    bom: bool = False
    labels_for: str | None = None
    metric: str | Callable[..., Any] | None = None
    runtime: str = RUNTIMES[0]
    openvino: bool = False
    inline: bool = False
    fixed_weights: bool = False
    weights_under: str | Path | None = None
    export: ExportConfig = field(default_factory=ExportConfig)
    preprocess: Preprocess | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.precision, Half | EightBit | None):
            raise UsageError(
                f"precision={self.precision!r}",
                "is not a precision",
                "give Half(), Half('bfloat16'), Int8(...) or Fp8(...)",
            )
        if not isinstance(self.engine, EngineConfig | None):
            raise UsageError(f"engine={self.engine!r}", "is not an engine's config", "give EngineConfig(...)")
        if self.engine is not None and self.inline:
            raise UsageError("--inline", "takes the operators that the engine's plugins compute", "leave one out")
        if (
            self.engine is not None
            and isinstance(self.precision, EightBit)
            and self.precision.placement != PLACEMENTS[0]
        ):
            cause = "measures on this CPU, and an engine runs on a GPU"
            raise UsageError(f"--placement {self.precision.placement}", cause, "leave it or --engine out")
        if not isinstance(self.preprocess, Preprocess | None):
            place, remedy = f"preprocess={self.preprocess!r}", 'give Preprocess(...) or Preprocess.of("imagenet")'
            raise UsageError(place, "does not say what is done to images", remedy)
        if not isinstance(self.export, ExportConfig):
            raise UsageError(f"export={self.export!r}", "is not an export's config", "give ExportConfig(...)")
        if self.bundle not in (None, *KINDS):
            raise UsageError(f"--bundle {self.bundle}", "is no kind of bundle", f"choose {', '.join(KINDS)}")
        self._check_opset()
        if isinstance(self.export.batch, int) and self.batches not in (None, (self.export.batch,)):
            sizes = ",".join(map(str, self.batches or ()))
            cause = f"is more than the one batch of the file, which --batch {self.export.batch} fixes"
            raise UsageError(f"--batches {sizes}", cause, "leave it out")

    def _check_opset(self) -> None:
        """Refuse an operator set that lacks the types of the precision."""
        opset, precision = self.export.opset, self.precision
        if opset is None or precision is None:
            return
        half = precision.dtype if isinstance(precision, Half) else precision.rest
        first = CONVOLVED_FROM.get(half, 0)
        if opset < first:
            cause = f"has no convolutions in that half type, which came with {first}"
            raise UsageError(f"--opset {opset}", cause, "take fp16, or leave it out")
        if precision.dtype == FLOAT8.name and opset < FLOAT8_FROM:
            cause = f"has no {FLOAT8.short} without a zero point, which came with {FLOAT8_FROM}"
            raise UsageError(f"--opset {opset}", cause, "leave it out")


def require_runtime(word: str) -> None:
    """Refuse a word for a runtime that is none.

    Raises:
        UsageError: it lists those there are.
    """
    if word not in RUNTIMES:
        raise UsageError(f"--runtime {word}", "is no runtime", f"choose {' or '.join(RUNTIMES)}")
