"""What is foreseen of a checkpoint is what its ONNX file has: nothing is refused early that the file would take.

The witness is the exported file: its modules as `reduce_precision` looks for them, its outputs as ONNX Runtime gives
them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from normexport import onnx_export
from normexport.checkpoint import Checkpoint, checkpoint_of
from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.precision import Half, Judged
from normexport.precision.foreseen import require_labels_fit, require_modules
from normexport.precision.half.search import asked_for
from normexport.precision.int8.first_samples import check_labels_fit
from normexport.runtime import OnnxRuntime

X = InputSpec("x", (3, 8, 8))


class Block(nn.Module):
    """A convolution, a norm that folds, and an addition of the block's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x))) + x


class Two(NamedTuple):
    """What a network with two heads returns."""

    scores: Tensor
    maps: Tensor


class Net(nn.Module):
    """Modules in modules, one of them called twice, operators of no module, and outputs of several kinds."""

    def __init__(self, returns: str = "scores") -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.shared, self.head, self.returns = nn.ReLU(), nn.Linear(3, 5), returns

    def forward(self, x: Tensor) -> Any:
        maps = self.shared(self.shared(self.blocks(x)) - 0.5)
        scores = self.head(maps.mean((2, 3)))
        return {
            "scores": scores,
            "maps": maps,
            "tuple": (scores, maps),
            "dict": {"scores": scores, "deep": [maps]},
            "named": Two(scores, maps),
            "classes": scores.argmax(1),
            "flat": scores.reshape(-1),
            "mean": scores.mean(),
        }[self.returns]


RETURNS = ("scores", "maps", "tuple", "dict", "named", "classes", "flat", "mean")


@cache
def checkpoint(returns: str, form: str) -> Checkpoint:
    torch.manual_seed(0)
    net = Net(returns).eval()
    if form == "module":
        return checkpoint_of(net)
    batch = ({0: torch.export.Dim("batch")},) if form == "program" else None
    return checkpoint_of(torch.export.export(net, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=batch))


def specs_for(form: str) -> tuple[InputSpec, ...]:
    return (X,) if form == "module" else ()


@cache
def exported(returns: str, form: str) -> onnx_export.Exported:
    return onnx_export.export(checkpoint(returns, form), specs_for(form))


def refusal(work: Callable[[], object]) -> str:
    """What is said against it; empty where nothing is."""
    try:
        work()
    except UsageError as error:
        return str(error)
    return ""


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """Names of nodes and modules, whole or cut, some of their letters wild."""
    graph = exported("scores", "program").model.graph
    modules = onnx_export.modules_foreseen(checkpoint("scores", "program"))
    names = [str(node.name) for node in graph] + list(modules) + ["layer9", "Sub", "conv.9", "Conv#2"]
    name = draw(st.sampled_from(names))
    name = name[: draw(st.integers(1, len(name)))]
    wild = draw(st.lists(st.tuples(st.integers(0, len(name) - 1), st.sampled_from("*?")), max_size=2))
    letters = list(name)
    for place, sign in wild:
        letters[place] = sign
    return "".join(letters) + draw(st.sampled_from(["", "*", "?", "#2", ".*", "*.conv"]))


@pytest.mark.parametrize("form", ["program", "module"])
@settings(max_examples=300, deadline=None)
@given(pattern=patterns())
def test_no_pattern_is_refused_that_matches_something_in_the_file(form: str, pattern: str) -> None:
    found = checkpoint("scores", form)
    early = refusal(lambda: require_modules([pattern], onnx_export.modules_foreseen(found)))
    late = refusal(lambda: asked_for(exported("scores", form).model, Half(keep=(pattern,))))
    assert not early or late


@pytest.mark.parametrize("form", ["program", "module"])
@pytest.mark.parametrize("pattern", ["layer9", "blocks.2*", "*.bn3", "head?", "blocks.0.conv.x"])
def test_patterns_of_modules_that_are_not_there_are_refused(form: str, pattern: str) -> None:
    modules = onnx_export.modules_foreseen(checkpoint("scores", form))
    with pytest.raises(UsageError, match=r"matches no module; modules are called blocks\.0\.conv, blocks\.0\.bn"):
        require_modules([pattern], modules)


@pytest.mark.parametrize("form", ["program", "fixed", "module"])
@pytest.mark.parametrize("returns", RETURNS)
def test_outputs_are_those_of_the_file(returns: str, form: str) -> None:
    found = checkpoint(returns, form)
    specs = onnx_export.inputs_to_export(found, specs_for(form))
    foreseen = onnx_export.outputs_foreseen(found, specs)
    assert foreseen is not None
    assert foreseen.samples == 2
    assert specs == exported(returns, form).inputs
    run = OnnxRuntime(exported(returns, form).model)
    real = run.run({specs[0].name: np.zeros((2, 3, 8, 8), np.float32)})
    assert {each.name: (each.shape, each.dtype) for each in foreseen.outputs} == {
        name: (array.shape, array.dtype.name) for name, array in real.items()
    }


LABELS: dict[str, tuple[Any, str | None, str | None]] = {
    "classes": (np.arange(4), None, None),
    "nine": (np.full(4, 9), None, None),
    "dense": (np.zeros((4, 8, 8), np.int64), None, None),
    "coarse": (np.zeros((4, 4, 4), np.int64), None, None),
    "few": (np.zeros(3, np.int64), None, None),
    "top5": (np.arange(4), None, "top5"),
    "numbers": (np.zeros((4, 5)), None, "mae"),
    "maps": (np.zeros((4, 3, 8, 8)), None, "rmse"),
    "named": (np.arange(4), "scores", None),
    "unnamed": (np.arange(4), "nothing", None),
}


@pytest.mark.parametrize("form", ["program", "fixed", "module"])
@pytest.mark.parametrize("returns", RETURNS)
@pytest.mark.parametrize("labels", LABELS)
def test_labels_are_refused_as_the_file_would_refuse_them(labels: str, returns: str, form: str) -> None:
    array, output, metric = LABELS[labels]
    specs = exported(returns, form).inputs
    judged = Judged({specs[0].name: np.zeros((4, 3, 8, 8), np.float32)}, array, output, metric)
    labelled, foreseen = judged.labelled, onnx_export.outputs_foreseen(checkpoint(returns, form), specs)
    assert labelled is not None
    assert foreseen is not None
    early = refusal(lambda: require_labels_fit(judged, labelled, foreseen, specs))
    model = exported(returns, form).model
    late = refusal(lambda: check_labels_fit(OnnxRuntime(model), model, judged, labelled, specs))
    if returns in ("flat", "mean"):  # the file is run sample by sample, and so are its outputs
        assert not early
        return
    assert bool(early) == bool(late)
    assert form == "fixed" or early == late  # of a fixed batch the file's words have the shape of several runs


def test_what_can_not_be_seen_is_left_to_the_export(tmp_path: Path) -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("no such size")

    class Lazy(nn.Module):
        """Makes a buffer in its first forward, which the export refuses and a look must not hide."""

        def forward(self, x: Tensor) -> Tensor:
            if not hasattr(self, "shift"):
                self.register_buffer("shift", torch.ones(3, 1, 1))
            return x + self.get_buffer("shift")

    assert onnx_export.outputs_foreseen(checkpoint_of(Failing().eval()), (X,)) is None
    lazy = checkpoint_of(Lazy().eval())
    assert onnx_export.outputs_foreseen(lazy, (X,)) is not None
    assert lazy.model is not None
    assert not hasattr(lazy.model, "shift")


def test_outputs_of_open_sizes_are_not_foreseen_of_a_program() -> None:
    height = torch.export.Dim("height", min=4, max=64)
    dims = ({0: torch.export.Dim("batch"), 2: height},)
    program = torch.export.export(Net("maps").eval(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=dims)
    found = checkpoint_of(program)
    specs = onnx_export.inputs_to_export(found, (InputSpec("x", (3, 8, 8)),))
    foreseen = onnx_export.outputs_foreseen(found, specs)
    assert foreseen is not None
    assert [each.shape for each in foreseen.outputs] == [None]
    judged = Judged({"x": np.zeros((4, 3, 8, 8), np.float32)}, np.zeros((4, 9, 9), np.int64))
    assert judged.labelled is not None
    require_labels_fit(judged, judged.labelled, foreseen, specs)
