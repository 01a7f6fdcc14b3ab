"""float16 and bfloat16 files: their types, what they keep in float32 and why, and that they hold the parity rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from normexport.errors import UsageError
from normexport.precision import Half
from normexport.precision.half.baseline import HalfParity
from normexport.precision.half.graph import HalfConfig, to_half
from normexport.precision.half.rounding import rounding_in_float32
from normexport.precision.half.search import Halved, halve, weight_losses
from normexport.proof.verdict import ParityReport
from normexport.runtime import OnnxRuntime
from tests.precision import nets

pytestmark = pytest.mark.slow

HALVES = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}


def converted(
    model: Callable[..., Any], dtype: str = "float16", keep: tuple[str, ...] = ()
) -> tuple[ir.Model, Halved, ParityReport]:
    """(folded, halved, report) of what makes a torch model."""
    folded, layers = nets.folded(model)
    judge = HalfParity(model(), (nets.SPEC,), dtype, folded)
    halved = halve(folded, Half(dtype, keep=keep), [batch.feeds for batch in judge.batches], judge.accepts)
    return folded, halved, judge.report(halved, layers)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_half_file_is_valid_onnx_and_reads_and_writes_float32_by_default(dtype: str) -> None:
    folded, _ = nets.folded(nets.centred)
    model = to_half(folded, HalfConfig(dtype))
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    ends = [value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)]
    assert ends == [onnx.TensorProto.FLOAT] * 2
    assert [value.name for value in proto.graph.output] == [value.name for value in folded.graph.outputs]
    convolved = {node.outputs[0].dtype.name for node in model.graph if node.op_type == "Conv"}
    assert convolved == {dtype.upper()}


@pytest.mark.parametrize("dtype", HALVES)
def test_half_inputs_and_outputs_are_given_where_asked_for(dtype: str) -> None:
    proto = ir.to_proto(to_half(nets.folded(nets.live)[0], HalfConfig(dtype, half_io=True)))
    onnx.checker.check_model(proto, full_check=True)
    ends = [value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)]
    assert ends == [HALVES[dtype]] * 2


@pytest.mark.parametrize("dtype", HALVES)
def test_a_file_with_half_inputs_and_outputs_is_judged_as_well(dtype: str) -> None:
    folded, layers = nets.folded(nets.centred)
    rule = HalfParity(nets.centred(), (nets.SPEC,), dtype, folded)
    halved = halve(folded, Half(dtype, dtype), [batch.feeds for batch in rule.batches], rule.accepts)
    assert rule.report(halved, layers).passed


def test_norm_parameters_and_means_stay_in_float32() -> None:
    model = to_half(nets.folded(nets.live)[0])
    (norm,) = [node for node in model.graph if node.op_type == "L1InstanceNorm"]
    assert [value.dtype.name for value in norm.inputs] == ["FLOAT16", "FLOAT", "FLOAT"]
    model = to_half(nets.folded(nets.stressed)[0])
    (mean,) = [node for node in model.graph if node.op_type == "ReduceMean"]
    assert mean.inputs[0].dtype.name == mean.outputs[0].dtype.name == "FLOAT"


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("float16", torch.float16), ("bfloat16", torch.bfloat16)])
def test_each_value_is_rounded_once_as_torch_rounds_it(dtype: str, torch_dtype: torch.dtype) -> None:
    conv = torch.nn.Conv2d(3, 2, 1, bias=False).eval()
    folded, _ = nets.folded(lambda: conv)
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    (got,) = OnnxRuntime(rounding_in_float32(to_half(folded, HalfConfig(dtype)))).run({"input": x}).values()
    rounded = torch.from_numpy(x).to(torch_dtype).double()
    weight = conv.weight.detach().to(torch_dtype).double()
    exact = torch.nn.functional.conv2d(rounded, weight)
    expected = exact.float().to(torch_dtype).float().numpy()
    # The sum of three products is float32 there and float64 here: a value in a thousand may sit on the other side.
    assert (got == expected).mean() > 0.99
    assert np.abs(got - exact.numpy()).max() <= np.abs(expected - exact.numpy()).max() * 1.01


def test_a_tiny_running_scale_is_named_by_channel_and_kept_in_float32() -> None:
    folded, halved, report = converted(nets.stressed)
    (loss,) = [loss for loss in halved.losses if loss.kind == "overflow" and "weight" in loss.tensor]
    assert loss.channels == (5,)
    assert loss.path == "first"
    assert "first" in [kept.path for kept in halved.kept]
    assert report.passed, report.first_divergence
    plain = rounding_in_float32(to_half(folded))
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    (without,) = OnnxRuntime(plain).run({"input": x}).values()
    assert not np.isfinite(without).all()


def test_tensors_that_would_overflow_are_kept_in_float32_and_the_rest_is_not() -> None:
    folded, halved, report = converted(nets.growing)
    kept = {each.path: each.reason for each in halved.kept}
    assert {"grow", "shrink"} <= set(kept)
    assert "reaches" in kept["grow"]
    assert "head" not in kept
    assert report.passed, report.first_divergence
    assert weight_losses(folded, "bfloat16") == ()


def test_the_fewest_modules_that_add_the_error_are_kept() -> None:
    folded, _ = nets.folded(nets.centred)
    exact = OnnxRuntime(folded)
    feeds = {"input": np.random.default_rng(5).normal(size=(2, 3, 12, 12))}
    (reference,) = exact.run(feeds).values()

    def close(candidate: Halved) -> bool:
        (got,) = OnnxRuntime(rounding_in_float32(candidate.model)).run(feeds).values()
        return bool(np.sqrt(np.square(got - reference).mean()) < 1e-4)

    assert not close(halve(folded, Half(), [feeds]))
    halved = halve(folded, Half(), [feeds], close)
    assert close(halved)
    assert 0 < len(halved.kept) < 4
    assert all("parity budget" in kept.reason for kept in halved.kept)


def test_live_norms_of_64_channels_with_means_pass_in_float16() -> None:
    _, halved, report = converted(partial(nets.live, 1.0))
    assert report.passed, report.first_divergence
    assert halved.kept == ()


def test_tensors_that_a_half_type_holds_too_coarsely_are_kept() -> None:
    """Means of 100 at a spread of 0.06: rounding alone is a third of what the norm leaves; PyTorch makes that error."""
    _, halved, report = converted(nets.live)
    assert report.passed, report.first_divergence
    assert [kept.path for kept in halved.kept] == ["0", "1"]
    assert max(row.candidate.relative_rms for row in report.outputs) < 0.003


def test_patterns_keep_modules_and_what_lies_below_them() -> None:
    _, halved, _ = converted(nets.stressed, keep=("sec*",))
    assert "second" in [kept.path for kept in halved.kept if kept.reason == "asked for by sec*"]
    (conv,) = [node for node in halved.model.graph if node.name == "second"]
    assert {value.dtype.name for value in conv.inputs} == {"FLOAT"}


def test_a_norm_folded_into_a_convolution_is_kept_by_its_own_path() -> None:
    _, halved, _ = converted(nets.stressed, keep=("norm",))
    assert "second" in [kept.path for kept in halved.kept]


def test_small_weights_that_vanish_are_named() -> None:
    conv = torch.nn.Conv2d(3, 4, 1, bias=False).eval()
    with torch.no_grad():
        conv.weight.fill_(1e-4)
        conv.weight[2] = 3e-7
    (loss,) = weight_losses(nets.folded(lambda: conv)[0], "float16")
    assert (loss.kind, loss.channels) == ("flush", (2,))
    assert "weight" in loss.message


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Half("float8"), "float8"),
        (lambda: Half("float16", "bfloat16"), "--io-dtype"),
        (lambda: halve(nets.folded(nets.live)[0], Half(keep=("layer9",))), "layer9"),
    ],
)
def test_what_can_not_be_done_is_one_clear_line(make: Callable[..., Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()
