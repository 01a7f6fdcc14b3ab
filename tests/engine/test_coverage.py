"""Which GPUs a plugin library's CUDA code runs on, by NVIDIA's rules of compatibility."""

from __future__ import annotations

from pathlib import Path

import pytest

from normexport.engine import EngineConfig, build_engine
from normexport.engine.coverage import targets_without_code
from normexport.plugins.elf import CudaCode
from tests.engine import networks, plugin_build

pytestmark = pytest.mark.slow

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ((), TARGETS),
        ((CudaCode(80, False),), ("sm75", "sm120", "sm121")),
        ((CudaCode(86, False),), ("sm75", "sm80", "sm120", "sm121")),
        ((CudaCode(80, False), CudaCode(120, False)), ("sm75",)),
        ((CudaCode(75, True),), ()),
        ((CudaCode(90, True),), ("sm75", "sm80", "sm86", "sm89")),
        ((CudaCode(90, False),), TARGETS),
    ],
)
def test_machine_code_serves_its_generation_and_ptx_all_later_ones(
    code: tuple[CudaCode, ...], missing: tuple[str, ...]
) -> None:
    assert targets_without_code(code, TARGETS) == missing


def test_the_gpu_at_hand_is_nothing_to_warn_of() -> None:
    assert targets_without_code((), ("current",)) == ()


@pytest.mark.skipif(plugin_build.missing() is not None, reason=str(plugin_build.missing()))
def test_a_plan_whose_plugins_lack_code_for_a_target_warns(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    model = networks.all_norms(tmp_path / "m.onnx", ["L1BatchNorm"])
    config = EngineConfig(targets=("sm89",), plugin_library=plugin_build.library())
    (warning,) = build_engine(model, tmp_path / "m.plan", config).warnings
    assert "no CUDA code for sm89" in warning
