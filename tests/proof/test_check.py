"""The check itself, on runtimes whose answers are written down."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from torch import nn

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec, Layer
from normexport.proof import Batch, check, check_model
from normexport.proof.verdict import ParityReport
from normexport.runtime import Port, TorchRuntime
from normexport.runtime.base import Array, Feeds, Sink
from tests.proof.nets import Norm, Writer, plain, tiny_model

BATCHES = (Batch("one", 1, {"x": np.zeros((1, 2))}), Batch("two", 2, {"x": np.zeros((2, 2))}))
EXACT = np.array([[1.0, -2.0, 3.0, 0.5], [-2.0, 1.0, 0.5, 3.0]])


class Written:
    """A runtime that returns what it was given, cut to the batch size."""

    passive_capture = True
    inputs = (Port("x", "float64"),)
    input_names = ("x",)

    def __init__(
        self, name: str = "written", captured: dict[str, np.ndarray] | None = None, **outputs: np.ndarray
    ) -> None:
        self.name, self.outputs, self.captured = name, outputs, captured or {}
        self.output_names = tuple(outputs)
        self.dropped: Mapping[str, str] = {}

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        n = len(feeds["x"])
        self.dropped = {name: "is not here" for name in capture if name not in self.captured}
        result: dict[str, Array] = {name: value[:n] for name, value in self.outputs.items()}
        for name in (name for name in self.captured if name in capture):
            if sink:
                sink(name, self.captured[name][:n])
            else:
                result[name] = self.captured[name][:n]
        return result


def judged(
    value: np.ndarray | None, exact: np.ndarray = EXACT, baseline: np.ndarray | None = None, **options: Any
) -> ParityReport:
    baseline = exact.astype(np.float32) if baseline is None else baseline
    outputs: dict[str, Any] = {} if value is None else {"y": value}
    return check(
        lambda: Written("exact", y=exact),
        lambda: Written("torch", y=baseline),
        lambda: Written("candidate", **outputs),
        BATCHES,
        **options,
    )


def test_equal_outputs_pass() -> None:
    report = judged(EXACT.astype(np.float32))
    assert report.passed
    assert [row.batch for row in report.outputs] == ["one", "two"]
    assert (report.reference, report.baseline, report.candidate) == ("exact", "torch", "candidate")


def changed(index: tuple[int, ...], value: float, dtype: type[np.float32] = np.float32) -> np.ndarray:
    array = EXACT.astype(dtype)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (changed((0, 0), np.nan), "NaN differs"),
        (changed((0, 0), np.inf), "inf differs"),
        (EXACT[:, :3].astype(np.float32), "shape (1, 3), expected (1, 4)"),
        (EXACT.astype(np.float64), "dtype float64, expected float32"),
        (EXACT.astype(np.float16), "dtype float16, expected float32"),
        (EXACT.astype(np.int64), "dtype int64, expected floating point"),
        (None, "is missing"),
    ],
    ids=["nan", "inf", "shape", "wider", "narrower", "integer", "missing"],
)
def test_nan_shape_dtype_and_missing_outputs_fail(value: np.ndarray | None, fault: str) -> None:
    report = judged(value)
    assert not report.passed
    assert fault in (report.outputs[0].fault or "")
    assert report.worst.fault is not None


def test_the_budget_is_the_factor_times_torchs_error_plus_the_floor() -> None:
    """Errors of 1e-3 in torch allow 6 * spread(12) = 6.93 times as much; without them only the floor."""
    baseline = (EXACT * (1 + 1e-3)).astype(np.float32)
    assert judged((EXACT * (1 + 6.8e-3)).astype(np.float32), baseline=baseline).passed
    assert not judged((EXACT * (1 + 7.1e-3)).astype(np.float32), baseline=baseline).passed
    assert not judged((EXACT * (1 + 6.8e-3)).astype(np.float32)).passed


def test_what_torch_computes_exactly_is_held_to_eight_roundoffs() -> None:
    exact = EXACT.astype(np.float32).astype(np.float64)
    assert judged((exact * (1 + 7 * 2**-24)).astype(np.float32), exact).passed
    assert not judged((exact * (1 + 10 * 2**-24)).astype(np.float32), exact).passed


def test_a_zero_sample_must_be_zero() -> None:
    exact = EXACT.copy()
    exact[0] = 0.0
    assert judged(exact.astype(np.float32), exact).passed
    wrong = exact.astype(np.float32)
    wrong[0] = 1e-12
    report = judged(wrong, exact)
    assert [row.within for row in report.outputs] == [False, True]


def test_nan_and_infinity_where_the_reference_has_them_pass() -> None:
    exact = EXACT.copy()
    exact[0] = [np.nan, np.inf, -np.inf, 1.0]
    assert judged(exact.astype(np.float32), exact).passed


def test_a_baseline_that_overflows_is_said_and_does_not_excuse_the_candidate() -> None:
    exact = EXACT * 1e200
    with np.errstate(over="ignore"):
        overflowed = exact.astype(np.float32)
    report = judged(overflowed, exact, baseline=overflowed)
    assert not report.passed
    assert any("torch itself: +inf differs" in note for note in report.notes)


def test_integer_outputs_may_flip_where_torchs_do() -> None:
    exact = np.arange(20_000).reshape(2, -1)
    one, many = exact.copy(), exact.copy()
    one[0, 5] += 1
    many[0, :50] += 1
    assert judged(one, exact, baseline=exact).passed
    assert not judged(many, exact, baseline=exact).passed
    assert judged(many, exact, baseline=many).passed


def test_no_inputs_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no inputs to compare on"):
        check(lambda: Written(), lambda: Written(), lambda: Written(), ())


def test_the_report_is_strict_json() -> None:
    report = judged(changed((0, 0), np.nan))
    text = json.dumps(report.as_dict(), allow_nan=False)
    assert json.loads(text)["passed"] is False
    assert json.loads(text)["outputs"][0]["fault"].startswith("NaN differs")


def test_the_first_divergence_names_the_innermost_of_modules_that_share_an_output() -> None:
    right, wrong = EXACT.astype(np.float32), changed((0, 0), 7.0)
    layers = [Layer("stem", 0, "M", "s"), Layer("body", 0, "M", "a"), Layer("body.last.act", 0, "M", "a")]
    report = check(
        lambda: Written("exact", {"s": EXACT, "a": EXACT}, y=EXACT),
        lambda: Written("torch", {"s": right, "a": right}, y=right),
        lambda: Written("candidate", {"s": right, "a": wrong}, y=wrong),
        BATCHES,
        layers,
    )
    assert report.first_divergence.path == "body.last.act"


def test_runtimes_live_one_at_a_time() -> None:
    alive: weakref.WeakSet[Written] = weakref.WeakSet()
    most = []

    def factory(name: str) -> Callable[..., Written]:
        def make() -> Written:
            gc.collect()
            runtime = Written(name, {"a": EXACT.astype(np.float32)}, y=EXACT.astype(np.float32))
            alive.add(runtime)
            most.append(len(alive))
            return runtime

        return make

    check(factory("r"), factory("b"), factory("c"), BATCHES, [Layer("m", 0, "M", "a")])
    assert most == [1, 1, 1]


def test_boundaries_in_groups_give_the_same_rows_as_at_once() -> None:
    torch.manual_seed(0)
    net = plain(4, 8)
    written = Writer().write(net, (3, 10, 10))
    model = ir.from_proto(written.model)

    def run(capture_bytes: int) -> ParityReport:
        from normexport.runtime import OnnxRuntime

        batches = [Batch("two", 2, {"x": np.random.default_rng(0).standard_normal((2, 3, 10, 10))})]
        return check(
            lambda: TorchRuntime(net, written.inputs, written.outputs, "float64", written.layers),
            lambda: TorchRuntime(net, written.inputs, written.outputs, "float32", written.layers),
            lambda: OnnxRuntime(model, threads=1),
            batches,
            written.layers,
            capture_bytes=capture_bytes,
        )

    at_once, grouped = run(1 << 30), run(10_000)
    assert len(at_once.layers) == len(written.layers)
    assert [row.path for row in grouped.layers] == [row.path for row in at_once.layers]
    for a, b in zip(at_once.layers, grouped.layers, strict=True):
        assert a.baseline.rms == pytest.approx(b.baseline.rms, rel=1e-6)
        assert b.passed


def test_folded_boundaries_are_listed_as_unchecked_not_failed() -> None:
    torch.manual_seed(0)
    net = plain(2, 4)
    unfolded, folded = Writer(fold=False).write(net, (3, 6, 6)), Writer().write(net, (3, 6, 6))
    report = check_model(net, ir.from_proto(folded.model), unfolded.layers, folded.inputs)
    assert report.passed
    assert dict(report.unchecked) == dict.fromkeys(("0", "3"), "is not in the candidate (folded away)")
    assert [row.path for row in report.layers] == [layer.path for layer in folded.layers]


def test_boundaries_of_a_module_called_more_often_than_mapped_are_unchecked() -> None:
    torch.manual_seed(0)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.linear(x))

    net = Twice().eval()
    w, b = net.linear.weight.detach().numpy(), net.linear.bias.detach().numpy()
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["first"], transB=1),
        helper.make_node("Gemm", ["first", "w", "b"], ["y"], transB=1),
    ]
    model = tiny_model(nodes, {"w": w, "b": b}, 3)
    report = check_model(net, model, [Layer("linear", 0, "Linear", "first")], [InputSpec("x", (3,))])
    assert report.passed
    assert report.unchecked == (("linear", "linear is called 2 times, the layer map knows 1"),)


def test_a_program_with_a_fixed_batch_is_checked_at_that_batch_and_it_is_said() -> None:
    linear = nn.Linear(3, 3)
    net = nn.Sequential(linear).eval()
    program = torch.export.export(net, (torch.zeros(4, 3),))
    tensors = {"w": linear.weight.detach().numpy(), "b": linear.bias.detach().numpy()}
    model = tiny_model([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], tensors, 3)
    report = check_model(program, model, (), [InputSpec("x", (4, 3), batched=False)])
    assert report.passed
    assert report.notes[0].startswith("the model fixes its batch size")


def test_norm_in_the_test_nets_is_the_affine_map_it_claims() -> None:
    norm = Norm(3)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    a, b = (norm.inv_scale * norm.weight).view(-1, 1, 1), norm.bias.view(-1, 1, 1)
    expected = a * (x - norm.mean.view(-1, 1, 1)) + b
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-6)
