"""What TensorRTRuntime asks of TensorRT, on the CPU: a stand-in for the vendor's module that computes y = 2x + 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from normexport import capsule
from normexport.capsule.candidates import RuntimeCandidate
from normexport.engine.manifest import FileId, PlanTensor
from normexport.errors import EngineError, UsageError
from normexport.proof.verdict import ParityReport
from normexport.runtime.tensorrt_debug import array_at
from normexport.runtime.tensorrt_ports import profile_for
from tests.runtime import conftest
from tests.runtime.conftest import OnCpu
from tests.runtime.tensorrt_stand_in import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_go_in_and_come_out_by_name_in_the_types_of_the_plan(opened: Callable[..., Any], dtype: str) -> None:
    runtime, context, _ = opened(dtype)
    x = np.arange(12).reshape(4, 3).astype(DTYPES[dtype])
    y = runtime.run({"x": x})["y"]
    np.testing.assert_array_equal(y, 2 * x + 1)
    assert (y.dtype, y.shape, context.streams) == (np.dtype(dtype), (4, 3), [77])


def test_wider_floats_are_rounded_to_the_type_of_the_input(opened: Callable[..., Any]) -> None:
    runtime, *_ = opened("float16")
    y = runtime.run({"x": np.full((1, 3), 1.0001)})["y"]
    assert y.dtype == np.float16


def test_a_transposed_array_is_read_in_its_own_order(opened: Callable[..., Any]) -> None:
    runtime, *_ = opened()
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(runtime.run({"x": x})["y"], 2 * x + 1)


def test_a_strided_tensor_is_read_in_its_own_order(opened: Callable[..., Any]) -> None:
    runtime, *_ = opened()
    x = torch.arange(12, dtype=torch.float32).reshape(3, 4).T
    torch.testing.assert_close(runtime.run_tensors({"x": x})["y"], 2 * x + 1)


def test_outputs_of_one_run_survive_the_next(opened: Callable[..., Any]) -> None:
    runtime, *_ = opened()
    first = runtime.run({"x": np.zeros((2, 3), np.float32)})["y"]
    runtime.run({"x": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(first, 1)


@pytest.mark.parametrize("shape", [(0, 3), (17, 3), (4, 2), (4,), (4, 3, 1)])
def test_shapes_outside_the_profile_never_reach_the_engine(opened: Callable[..., Any], shape: tuple[int, ...]) -> None:
    runtime, context, _ = opened()
    with pytest.raises(UsageError, match="input x"):
        runtime.run_tensors({"x": torch.zeros(shape)})
    assert not context.streams


TWO = [[(1, 3), (1, 3), (2, 3)], [(2, 3), (8, 3), (8, 3)]]


@pytest.fixture
def two_profiles(opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """An engine for batches of 1 and 2, and of 2 to 8."""

    def known(name: str, dtype: str, shape: tuple[int, ...], *profile: Any) -> PlanTensor:
        if not profile:
            return PlanTensor(name, dtype, shape)
        (low, usual, high), more = TWO
        return PlanTensor(name, dtype, shape, low, usual, high, ((more[0], more[1], more[2]),))

    monkeypatch.setattr(conftest, "PlanTensor", known)
    return lambda: opened(says={"x": {"profiles": TWO}})


@pytest.mark.parametrize(("batch", "profile"), [(1, 0), (2, 0), (3, 1), (8, 1)])
def test_a_batch_runs_in_the_profile_that_expects_it_most(
    two_profiles: Callable[[], Any], batch: int, profile: int
) -> None:
    runtime, context, _ = two_profiles()
    np.testing.assert_array_equal(runtime.run({"x": np.ones((batch, 3), np.float32)})["y"], np.full((batch, 3), 3))
    assert context.profile == profile


def test_a_batch_in_no_profile_never_reaches_the_engine(two_profiles: Callable[[], Any]) -> None:
    runtime, context, _ = two_profiles()
    with pytest.raises(UsageError, match=r"outside the profiles \(1, 3\) to \(2, 3\) and \(2, 3\) to \(8, 3\)"):
        runtime.run({"x": np.ones((9, 3), np.float32)})
    assert not context.streams


@pytest.mark.parametrize(("batch", "words"), [(2, None), (3, "the candidate takes a batch of 1 to 2, or 5 to 8")])
def test_a_capsule_knows_the_batches_of_every_profile(
    opened: Callable[..., Any], batch: int, words: str | None
) -> None:
    runtime, *_ = opened()
    candidate = RuntimeCandidate(runtime, {"y": "float32"}, {"x": ((1, 2), (5, 8))})
    run = capsule.Run("r", batch, {"x": np.ones((batch, 3), np.float32)}, ())
    assert candidate.lacks(0, run) == words


def test_shapes_of_two_inputs_must_lie_in_one_profile() -> None:
    x = PlanTensor("x", "float32", (-1,), (1,), (1,), (1,), (((8,), (8,), (8,)),))
    y = PlanTensor("y", "float32", (-1,), (2,), (2,), (2,), (((9,), (9,), (9,)),))
    assert profile_for((x, y), ((1,), (2,))) == 0
    assert profile_for((x, y), ((8,), (9,))) == 1
    assert profile_for((x, y), ((1,), (9,))) is None
    assert profile_for((), ()) == 0


def test_a_second_profile_that_the_manifest_does_not_know_is_refused(opened: Callable[..., Any]) -> None:
    first = [(1, 3), (4, 3), (16, 3)]
    with pytest.raises(UsageError, match=r"to \(16, 3\), \(17, 3\) to \(32, 3\), and its manifest says"):
        opened(says={"x": {"profiles": [first, [(17, 3), (32, 3), (32, 3)]]}})


@pytest.mark.parametrize("tensor", [torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1, 3, device="meta")])
def test_a_tensor_of_another_type_or_place_never_reaches_the_engine(
    opened: Callable[..., Any], tensor: torch.Tensor
) -> None:
    runtime, context, _ = opened()
    with pytest.raises(UsageError, match="float32 on cpu is needed"):
        runtime.run_tensors({"x": tensor})
    assert not context.streams


def test_what_the_engine_refuses_is_an_error_of_ours(opened: Callable[..., Any]) -> None:
    runtime, *_ = opened()
    with pytest.raises(UsageError, match=r"\(13, 3\) is not accepted"):
        runtime.run({"x": np.zeros((13, 3), np.float32)})
    with pytest.raises(UsageError, match="has no input z"):
        runtime.run({"z": np.zeros((1, 3), np.float32)})
    with pytest.raises(UsageError, match="missing"):
        runtime.run_tensors({})


def test_inner_values_are_said_to_be_inside_the_engine(opened: Callable[..., Any]) -> None:
    runtime, *_ = opened()
    assert set(runtime.run({"x": np.zeros((1, 3), np.float32)}, ["conv1"])) == {"y"}
    assert runtime.dropped == {"conv1": "is inside the engine"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_inner_values_that_are_not_fused_are_given_once_by_plans_with_debug_tensors(
    opened: Callable[..., Any], dtype: str
) -> None:
    runtime, _, _ = opened(dtype, trust=False, options={"debug_tensors": True})
    x = np.arange(6).reshape(2, 3).astype(DTYPES[dtype])
    values = runtime.run({"x": x}, ["conv1", "conv2"])
    np.testing.assert_array_equal(values["conv1"], 2 * x)
    np.testing.assert_array_equal(values["y"], 2 * x + 1)
    assert runtime.dropped == {"conv2": "is fused inside the engine"}
    seen = []
    assert set(runtime.run({"x": x}, ["conv1"], lambda name, value: seen.append((name, value)))) == {"y"}
    np.testing.assert_array_equal(seen[0][1], 2 * x)
    assert len(seen) == 1


def test_nobody_listens_where_no_inner_value_is_asked_for(opened: Callable[..., Any]) -> None:
    runtime, context, _ = opened(trust=False, options={"debug_tensors": True})
    runtime.run({"x": np.zeros((2, 3), np.float32)})
    assert not hasattr(context, "listener")


def test_what_goes_wrong_in_the_vendors_call_is_raised_after_it(opened: Callable[..., Any]) -> None:
    runtime, *_ = opened(trust=False, options={"debug_tensors": True})

    def full(name: str, value: np.ndarray) -> NoReturn:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        runtime.run({"x": np.zeros((2, 3), np.float32)}, ["conv1"], full)


def test_a_capsule_judges_what_is_inside_an_engine(opened: Callable[..., Any]) -> None:
    """y = 2x + 1 with the tensor conv1 = 2x inside, and a capsule that is right, or wrong, about it."""
    x = np.arange(24, dtype=np.float32).reshape(8, 3)

    def judged(inside: np.ndarray) -> ParityReport:
        rule = capsule.Within(1e-5, 1e-5)
        y = capsule.Reference("y", 2.0 * x.astype(np.float64) + 1, rule, x.shape, (0, 0, 0), dtype="float32")
        conv = capsule.Reference("conv1", inside, rule, x.shape, (0, 0, 0), path="net.conv", type="Conv2d")
        known = capsule.Capsule("float32", "r", "b", {"x": "float32"}, (capsule.Run("r", 8, {"x": x}, (y,)),), (conv,))
        runtime, *_ = opened(trust=False, options={"debug_tensors": True})
        return capsule.judge(known, RuntimeCandidate(runtime, {"y": "float32"}, {"x": ((1, 16),)}))

    assert judged(2.0 * x).judgement.passed
    report = judged(2.0 * x + 1e-3)
    assert not report.judgement.passed
    assert report.first_divergence.path == "net.conv"


def test_bfloat16_in_the_hosts_memory_is_widened_exactly() -> None:
    stored = torch.tensor([1.5, -3.0, 1e30, float("inf")], dtype=torch.bfloat16)
    array = array_at(stored.data_ptr(), (4,), "bfloat16", 0, None)
    np.testing.assert_array_equal(array, stored.float().numpy())
    assert array_at(stored.data_ptr(), (4,), "fp8", 0, None) is None
    assert array_at(0, (0, 3), "float32", 0, OnCpu()).shape == (0, 3)


def test_host_code_is_allowed_only_for_plans_that_hold_it(opened: Callable[..., Any]) -> None:
    _, _, (plain, *_) = opened()
    assert plain.engine_host_code_allowed is False
    _, _, (holding, *_) = opened(host_code=True, embedded=True)
    assert holding.engine_host_code_allowed is True


def test_the_plugin_library_is_loaded_before_the_plan(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libnormexport_tensorrt.so"
    library.write_bytes(b"code")
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    _, _, seen = opened(plugin=FileId.of(library))
    assert seen[1] == str(library)


def test_a_plan_that_tensorrt_can_not_open_is_an_engine_error(opened: Callable[..., Any]) -> None:
    with pytest.raises(EngineError, match="can't open it"):
        opened(content=b"another plan")


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"x": {"dtype": "INT64"}}, r"has the input x int64 \(-1, 3\).*and its manifest says float32"),
        (
            {"x": {"shape": (-1, 4), "profile": [(1, 4), (4, 4), (16, 4)]}},
            r"x float32 \(-1, 4\).*says float32 \(-1, 3\)",
        ),
        ({"x": {"profile": [(1, 3), (4, 3), (99, 3)]}}, r"to \(99, 3\), and its manifest says .* to \(16, 3\)"),
        ({"y": {"dtype": "HALF"}}, r"has the output y float16"),
        (
            {"y": {"shape": (-1, 1000)}},
            r"has the output y float32 \(-1, 1000\), and its manifest says float32 \(-1, 3\)",
        ),
        ({"y": {"shape": (-1, 3, 1)}}, r"has the output y"),
        ({"z": {"dtype": "FLOAT", "shape": (1,)}}, "has the output z .* knows none of that name"),
        ({"x": {"mode": "out"}}, "has no input x, which its manifest names"),
    ],
)
def test_a_manifest_that_contradicts_the_engine_is_refused(
    opened: Callable[..., Any], says: dict[str, dict[str, Any]], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        opened(says=says)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"x": {"location": "host"}}, "is read as a shape, in the host's memory"),
        ({"y": {"format": "chw32"}}, "is laid out in vectors of channels"),
        ({"y": {"dtype": "FP8"}}, "is of the type float8_e4m3fn, and inputs"),
    ],
)
def test_a_tensor_that_an_address_on_the_gpu_can_not_serve_is_refused(
    opened: Callable[..., Any], says: dict[str, dict[str, str]], words: str
) -> None:
    with pytest.raises(EngineError, match=words):
        opened(says=says)


def test_sizes_that_the_engine_closed_or_opened_are_no_contradiction(opened: Callable[..., Any]) -> None:
    runtime, *_ = opened(says={"y": {"shape": (16, 3)}})
    np.testing.assert_array_equal(runtime.run({"x": np.ones((2, 3), np.float32)})["y"], np.full((2, 3), 3))


def test_code_for_the_host_never_runs_without_trust_whatever_the_manifest_says(opened: Callable[..., Any]) -> None:
    _, _, (runtime, *_) = opened(trust=False)
    assert runtime.engine_host_code_allowed is False
    with pytest.raises(UsageError, match="--trust"):
        opened(host_code=True, embedded=True, trust=False)


def test_a_plan_that_is_exchanged_after_it_was_checked_is_never_opened(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    def exchanged() -> OnCpu:
        (tmp_path / "m.plan").write_bytes(b"another plan")
        return OnCpu()

    with pytest.raises(UsageError, match="is not the plan that its manifest describes"):
        opened(memory=exchanged)


def test_a_flavour_that_there_is_not_is_one_clear_line(opened: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="flavor 'os': does not exist"):
        opened(flavor="os")


def test_the_library_that_is_loaded_is_the_one_that_was_named(
    opened: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader looks for a bare name elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "library.so").write_bytes(b"code")
    _, _, seen = opened(plugin=FileId.of(tmp_path / "library.so"), library="library.so")
    assert seen[1] == str(tmp_path / "library.so")
