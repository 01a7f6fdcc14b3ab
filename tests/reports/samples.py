"""Results as the stages return them, made by hand: a small net, and a deep one with two refusals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from normexport.checkpoint.records import NormRecord, WeightNormRecord
from normexport.folding import FoldWarning, NormOutcome
from normexport.onnx_export import InputSpec
from normexport.proof.metrics import Deviation
from normexport.proof.tolerance import Budget
from normexport.proof.verdict import ParityReport, Row

DEEP = "backbone.bottom_up.stages.3.blocks.11.downsample.norm_after_projection"
PADDED = "Conv 'stem.conv2' pads its input with zeros: at the border the norm's shift B would be missing"


def errors(size: float) -> Deviation:
    """Errors of `size` on a tensor of scale 1."""
    return Deviation(size=640, scale_rms=1.0, scale_max=4.0, rms=size / 4, max_abs=size, cosine=1.0)


def judged(tensor: str, batch: str, excess: float, path: str = "", type: str = "", fault: str | None = None) -> Row:
    """A row that uses `excess` of a budget of 1e-6."""
    if fault is not None:
        return Row(tensor, path, type, batch, fault, None, None, None, float("inf"))
    return Row(tensor, path, type, batch, None, errors(excess * 1e-6), errors(2e-7), Budget(1e-6, 1e-6), excess)


def parity(worst: float = 0.41, output: float = 0.24, fault: str | None = None) -> ParityReport:
    """Two outputs, two boundaries: `worst` is the second boundary's share of its budget."""
    outputs = (
        judged("logits", "random x1, batch 1", 0.11),
        judged("logits", "random x0.1, batch 2", output, fault=fault),
    )
    layers = (
        judged("a", "random x1", 0.2, "stem.conv1", "Conv2d"),
        judged("b", "random x1", worst, DEEP, "L1BatchNorm2d"),
    )
    unchecked = (("stem.conv2", "is not in the candidate (folded away)"),)
    return ParityReport("PyTorch float64", "PyTorch float32", "ONNX Runtime", "float32", outputs, layers, unchecked)


def record(path: str, kind: str = "l1", health: tuple[str, ...] = ()) -> NormRecord:
    return NormRecord(path, kind, "normexport", 64, "running", health)


def folded(path: str, into: str = "conv1") -> NormOutcome:
    return NormOutcome(f"node_{path}", path, "l1", "folded", "producer", (into,), f"scaled into Conv '{into}'")


def refused(path: str) -> NormOutcome:
    return NormOutcome(f"node_{path}", path, "l1", "lowered", "lower", ("m", "a"), f"{PADDED}; lowered to Mul and Add")


def conversion(count: int, files: tuple[Path, ...] = (), **changes: object) -> SimpleNamespace:
    """`count` folded norms and one refused at a deep path."""
    paths = [f"layer{i // 10 + 1}.{i % 10}.bn1" for i in range(count)]
    values: dict[str, object] = {
        "path": Path("runs/model.pt2"),
        "source": "program",
        "inputs": (InputSpec("input", (3, 28, 28)),),
        "norms": (*map(record, paths), record(DEEP, health=("channel 3: running_scale is zero",))),
        "weight_norms": (WeightNormRecord("stem.conv1.weight", "normexport", -1, 2.0),),
        "notes": ("weights are under 'state_dict' of the file",),
        "outcomes": (*(folded(path, f"{path[:-3]}conv1") for path in paths), refused(DEEP)),
        "warnings": (FoldWarning("dead_channel", "node_x", DEEP, "channels 3 ignore their input (scale 0)", (3,)),),
        "operators": SimpleNamespace(before={"Conv": 53, "RunningNorm": 54}, after={"Conv": 53, "Mul": 1, "Add": 1}),
        "parity": parity(),
        "files": files,
        "seconds": (("load", 0.21), ("export", 3.34)),
        "engine": None,
        "precision": None,
        "data": None,
        **changes,
    }
    return SimpleNamespace(**values)
