"""int8 where it pays: the cheapest placement of a cost model, the guard, and a conversion that keeps what is faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.engine import EngineConfig
from normexport.errors import UsageError
from normexport.precision import Fp8, Int8, Judged, Reduced, reduce_precision
from normexport.precision.int8 import placement
from normexport.precision.int8.pairs import is_quantized
from normexport.precision.int8.placement_costs import Parts, Sample, fit, parts_of
from normexport.timing.intervals import Interval
from normexport.timing.kernels import PROFILED, Kernel, kernel_times
from normexport.timing.result import Ratio
from normexport.verbs.config import ConvertConfig
from tests.mutation import Mutation, check_noticed
from tests.narrow import present
from tests.precision import nets
from tests.precision.int8 import placement_claims


@pytest.mark.parametrize("claim", placement_claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Callable[[], None]) -> None:
    claim()


@settings(max_examples=40)
@given(seed=st.integers(1000, 100_000))
def test_no_placement_takes_less_by_the_costs(seed: int) -> None:
    placement_claims.placements_are_cheapest(range(seed, seed + 1))
    placement_claims.cuts_are_smallest(range(seed, seed + 1))


# ---- of a network


class Residual(torch.nn.Module):
    """A layer, a residual addition of two, a mean and a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu = torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()
        self.left, self.right = torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 1)
        self.head = torch.nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.stem(x))
        return self.head((self.left(x) + self.right(x)).mean((2, 3)))


def residual() -> torch.nn.Module:
    torch.manual_seed(5)
    return Residual().eval()


def samples(count: int = 48) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, *nets.SPEC.shape)).astype(np.float32)


def test_a_relu_goes_with_its_layer_and_a_mean_is_float32_whatever_happens() -> None:
    model, _ = nets.folded(residual)
    values = [value for node in model.graph for value in node.outputs]
    parts = parts_of(model, (), {str(value.name): 10 for value in [*model.graph.inputs, *values]})
    assert set(parts.modules) >= {"stem", "left", "right", "head"}
    owners = {node.op_type: parts.names[str(node.outputs[0].name)] for node in model.graph}
    assert owners["Relu"] == "stem"
    assert owners["ReduceMean"] is None
    made = {tensor.maker: tensor.readers for tensor in parts.tensors}
    assert made["stem"] == {"left", "right"}
    assert "head" in set().union(*(tensor.readers for tensor in parts.tensors if tensor.maker is None))


@pytest.mark.slow
@pytest.mark.parametrize("nameless", [False, True])
@pytest.mark.parametrize("runtime", PROFILED)
def test_a_runtime_tells_the_time_of_every_layer_by_a_name_of_the_file(runtime: str, nameless: bool) -> None:
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    model = nets.folded(residual)[0].clone()
    for node in model.graph if nameless else ():
        node.name = ""
    feeds = {"input": samples(8)}
    parts = parts_of(model, (), {name: array.size for name, array in feeds.items()})
    kernels = kernel_times(model, runtime, feeds)
    assert all(kernel.seconds >= 0 for kernel in kernels)
    total = sum(kernel.seconds for kernel in kernels)
    assert 0 < total < 10
    costs = fit(parts, [Sample(frozenset(parts.modules), kernels)])
    assert sum(seconds > 0 for seconds in costs.float32.values()) >= 3  # convolutions; what is small may take no time
    assert costs.saved == pytest.approx(sum(costs.float32.values()))


def test_kernels_of_runs_are_read_from_what_each_runtime_tells() -> None:
    from normexport.timing.kernels import _by_run, _from_averages

    def event(name: str, duration: float, operator: str = "Conv") -> dict[str, Any]:
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": duration, "args": {"op_name": operator}}

    run: dict[str, Any] = {"cat": "Session", "name": "model_run", "dur": 99}
    events: list[dict[str, Any]] = [{"name": "load"}, event("a", 5), event("a", 2), event("b", 1, "Add"), run]
    assert _by_run([*events, event("a", 3), run]) == [
        {("a", "Conv"): pytest.approx(7e-6), ("b", "Add"): pytest.approx(1e-6)},
        {("a", "Conv"): pytest.approx(3e-6)},
    ]
    single = np.array([9.0, 2.0, 4.0, 1.0])
    averages = [{("a", "Conv"): each} for each in np.cumsum(single) / np.arange(1, 5)]
    assert [each["a", "Conv"] for each in _from_averages(averages)] == pytest.approx(single[1:])


def reduced(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[ir.Model], float], *, limit: float = 15.0) -> Reduced:
    """With a clock of our own: a model takes `seconds`, shared among its layers."""

    def profiled(model: ir.Model, *_: object) -> tuple[Kernel, ...]:
        layers = [node for node in model.graph if node.op_type in ("Conv", "Gemm")]
        return tuple(Kernel(str(node.name), "Conv", 4.0 if is_quantized(node) == (node.name == slow) else 1.0)
                     for node in layers)  # fmt: skip

    def timed(models: Sequence[ir.Model], *_: object) -> tuple[Ratio, ...]:
        times = [seconds(model) for model in models]
        return tuple(Ratio(index, 0, Interval(each / times[0], each / times[0], each / times[0]), True, 8)
                     for index, each in enumerate(times[1:], start=1))  # fmt: skip

    model, _ = nets.folded(residual)
    slow = next(
        str(node.name) for node in model.graph if node.op_type == "Conv"
    )  # the first: 4 s in int8, 1 in float32
    monkeypatch.setattr(placement, "kernel_times", profiled)
    monkeypatch.setattr(placement, "time_models", timed)
    config = Int8(method="minmax", effort="none", placement="onnxruntime", min_snr=limit)
    return reduce_precision(model, config, [nets.SPEC], judged=Judged({"input": samples()}))


def in_float32(model: ir.Model) -> int:
    return sum(node.op_type in ("Conv", "Gemm") and not is_quantized(node) for node in model.graph)


@pytest.mark.slow
def test_a_layer_that_is_faster_in_float32_stays_there_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = reduced(monkeypatch, lambda model: 10.0 - in_float32(model))
    placed = present(found.precision.placement)
    assert "stem" in placed.excluded
    assert {module.path: module.reason for module in found.precision.kept}["stem"] == (
        "float32 is faster there on ONNX Runtime"
    )
    assert found.precision.judgement.passed
    assert in_float32(found.model) == len({*placed.excluded} & {"stem", "left", "right", "head"}) > 0
    assert placed.points[placed.chosen].snr_db == pytest.approx(present(present(found.precision.accuracy).snr_db))
    assert present(present(found.precision.accuracy).snr_db) > placed.points[0].snr_db


@pytest.mark.slow
def test_int8_stays_everywhere_where_no_other_placement_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    found = reduced(monkeypatch, lambda model: 10.0 + in_float32(model))
    placed = present(found.precision.placement)
    assert (placed.chosen, placed.excluded) == (0, ())
    assert found.precision.kept == ()
    assert in_float32(found.model) == 0


@pytest.mark.slow
def test_a_limit_that_nothing_holds_fails_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = reduced(monkeypatch, lambda model: 10.0 - in_float32(model), limit=500.0)
    assert not found.precision.judgement.passed


def test_a_model_without_layers_has_one_placement() -> None:
    model, _ = nets.folded(residual)
    parts = Parts((), (), {})
    found = placement._proposals(model, parts, lambda left: model, lambda modules: {}, lambda made: ())
    assert found == [frozenset()]


# ---- what is refused


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (lambda: Int8(placement="gpu"), "is not a placement"),
        (lambda: Int8(placement="openvino", remainder="float16"), "CPU runtimes compute in float32"),
        (lambda: Int8(placement="openvino", method="trained"), "keeps all that training rounded"),
        (lambda: Fp8(placement="openvino"), "none computes in fp8"),
        (lambda: ConvertConfig(precision=Int8(placement="openvino"), engine=EngineConfig()), "an engine runs on a GPU"),
    ],
)
def test_a_placement_that_means_nothing_is_refused(config: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        config()


def test_without_data_nothing_can_be_timed() -> None:
    model, _ = nets.folded(residual)
    config = Int8(method="norms", placement="onnxruntime")
    with pytest.raises(UsageError, match="needs samples to time and judge on"):
        reduce_precision(model, config, [nets.SPEC])


# ---- breaking it


def _mutation(claim: str, file: str, old: str, new: str) -> Mutation:
    return Mutation(claim, f"precision/int8/{file}", old, new)


MUTATIONS = (
    _mutation("flow goes back", "min_cut.py", "left[end][start] += flow", "left[end][start] += 0"),
    _mutation("edges of both ways stay", "min_cut.py", ".setdefault(start, 0.0)", "[start] = 0.0"),
    _mutation(
        "int8 has its own cost",
        "placement_costs.py",
        "edges[vertex, SINK] = costs.int8",
        "edges[vertex, SINK] = costs.float32",
    ),
    _mutation("something stays in int8", "placement_costs.py", "module: math.inf}", "module: 0.0}"),
    _mutation("penalties count", "placement_costs.py", "(penalties or {}).get(module, 0.0)", "0.0"),
    _mutation(
        "int8 is left at a price",
        "placement_costs.py",
        "edges[vertices[tensor.maker], dequantized] = seconds",
        "edges[vertices[tensor.maker], dequantized] = 0.0",
    ),
    _mutation(
        "and entered at one",
        "placement_costs.py",
        "else vertices[tensor.maker]] = seconds",
        "else vertices[tensor.maker]] = 0.0",
    ),
    _mutation("what is float32 anyway reads", "placement_costs.py", "edges[dequantized, SINK] = math.inf", "pass"),
    _mutation(
        "all readers count",
        "placement_costs.py",
        "any(each is not made for each in read)",
        "all(each is not made for each in read)",
    ),
    _mutation("kernels that convert are no module's", "placement_costs.py", "changed += kernel.seconds", "pass"),
    _mutation(
        "a Transpose of the runtime converts", "placement_costs.py", "kernel.operator == _TURNING and", "False and"
    ),
    _mutation("times are means", "placement_costs.py", "sum(each) / len(each)", "sum(each)"),
    _mutation("the limits come first", "placement.py", "if point.holds]\n    if", "]\n    if"),
    _mutation("the guard is that of the fastest", "placement.py", "fastest * (1 + GUARD)]", "fastest + 1]"),
    _mutation(
        "accuracy decides within it",
        "placement.py",
        "key=lambda index: (points[index].snr_db,",
        "key=lambda index: (0,",
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_placement_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.placement_claims", tmp_path)
