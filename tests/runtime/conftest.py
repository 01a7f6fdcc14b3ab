"""A plan opened on the stand-ins of `tensorrt_stand_in`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from normexport.engine.manifest import FileId, Manifest, PlanTensor, manifest_path, manifest_text
from normexport.runtime import TensorRTRuntime, tensorrt_runtime
from normexport.runtime.gpu_memory import GpuMemory, TorchMemory
from tests.runtime.tensorrt_stand_in import DTYPES, Context, Engine, tensors, vendor


class OnCpu(TorchMemory):
    """PyTorch's memory of the host, for a GPU of the kind that plans here are built for."""

    stream = 77

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.architecture = "sm89"


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Open a plan of one input and one output; returns the runtime, the context, and what opening it saw."""

    def opened(
        dtype: str = "float32",
        content: bytes = b"a plan",
        says: dict[str, Any] | None = None,
        trust: bool | None = None,
        library: Any = None,
        memory: Callable[[], GpuMemory] = OnCpu,
        cache: Any = None,
        **changes: Any,
    ) -> tuple[TensorRTRuntime, Context, list[Any]]:
        plan = tmp_path / "m.plan"
        plan.write_bytes(content)
        ends = PlanTensor("x", dtype, (-1, 3), (1, 3), (4, 3), (16, 3)), PlanTensor("y", dtype, (-1, 3))
        known = FileId.of(plan)
        fields: dict[str, Any] = {
            "flavor": "tensorrt-rtx",
            "plugin": None,
            "embedded": False,
            "host_code": False,
            "bodies": (),
            "plugins": (),
            "layers": (),
            "targets": ("sm89",),
        }
        manifest = Manifest(
            plan=known, onnx=known, normexport="0", flavor_version="1.7.1.9",
            inputs=ends[:1], outputs=ends[1:], precision={dtype: 1}, **{**fields, **changes},
        )  # fmt: skip
        manifest_path(plan).write_text(manifest_text(manifest))
        seen: list[Any] = []
        context = Context(DTYPES[dtype])
        engine = Engine(context, tensors(dtype, **(says or {})))
        monkeypatch.setattr(tensorrt_runtime, "require", lambda flavor: None)
        monkeypatch.setattr(tensorrt_runtime, "import_module", lambda name: vendor(context, seen, engine))
        monkeypatch.setattr(tensorrt_runtime, "gpu_memory", memory)
        trust = bool(changes) if trust is None else trust
        return (
            TensorRTRuntime(plan, graphs=False, trust=trust, plugin_library=library, runtime_cache=cache),
            context,
            seen,
        )

    return opened
