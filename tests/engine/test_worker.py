"""What the building process does with a plan that was built for the GPU at hand, told by a TensorRT that is a stand-in:
without a GPU the real one gets no further than the build.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from normexport.engine.worker import Worker

PLAN = b"a plan"


class Standin:
    """As much of TensorRT as a build needs; its runtime opens plans or refuses them."""

    IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
    ProfilingVerbosity = SimpleNamespace(DETAILED=1)
    BuilderFlag = SimpleNamespace(TF32=0)
    Logger = type("Logger", (), {"INFO": 0, "__init__": lambda self, severity: None})
    __version__ = "1.0"

    def __init__(self, *, opens: bool) -> None:
        self.opens = opens
        self.opened: list[Any] = []
        self.loaded: list[str] = []
        registry = SimpleNamespace(load_library=self._load, all_creators=[])
        config = SimpleNamespace(
            plugins_to_serialize=[], clear_flag=lambda flag: None, add_optimization_profile=lambda profile: 0
        )
        self.Builder = lambda logger: SimpleNamespace(
            get_plugin_registry=lambda: registry,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: SimpleNamespace(),
            build_serialized_network=lambda network, config: PLAN,
        )
        self.Runtime = lambda logger: SimpleNamespace(
            get_plugin_registry=lambda: registry, deserialize_cuda_engine=self._deserialize
        )

    def _load(self, path: str) -> int:
        self.loaded.append(path)
        return 1

    def _deserialize(self, plan: bytes) -> object | None:
        self.opened.append(plan)
        return object() if self.opens else None


def request(path: Path, *, opens: bool, embed: tuple[str, ...] = (), debug_tensors: bool = False) -> dict[str, object]:
    return {
        "plan": str(path),
        "targets": ["current"],
        "opens": opens,
        "profiles": [],
        "workspace": None,
        "optimization_level": None,
        "flags": [],
        "tf32": False,
        "debug_tensors": debug_tensors,
        "hardware_compatible": False,
        "timing_cache": None,
        "timings": None,
        "embed": list(embed),
    }


def said(channel: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in channel.getvalue().splitlines()]


def test_a_plan_for_this_gpu_that_can_not_be_opened_is_no_plan(tmp_path: Path) -> None:
    channel, trt = io.StringIO(), Standin(opens=False)
    with pytest.raises(SystemExit):
        Worker(channel, trt).build(None, request(tmp_path / "model.plan", opens=True))
    assert said(channel)[-1] == {"failed": {"stage": "open", "cause": "", "node": ""}}
    assert not list(tmp_path.iterdir())


def test_a_plan_that_opens_is_written_and_its_plugins_are_known_to_the_runtime(tmp_path: Path) -> None:
    channel, trt = io.StringIO(), Standin(opens=True)
    worker = Worker(channel, trt)
    worker.load(["plugin.so"])
    worker.build(None, request(tmp_path / "model.plan", opens=True))
    assert trt.opened == [PLAN]
    assert trt.loaded == ["plugin.so", "plugin.so"]  # of the builder, and of the runtime
    assert (tmp_path / "model.plan").read_bytes() == PLAN
    assert "done" in said(channel)[-1]


def test_a_library_in_the_plan_is_not_loaded_beside_it(tmp_path: Path) -> None:
    trt = Standin(opens=True)
    worker = Worker(io.StringIO(), trt)
    worker.load(["plugin.so"])
    worker.build(None, request(tmp_path / "model.plan", opens=True, embed=("plugin.so",)))
    assert trt.loaded == ["plugin.so"]


def test_a_plan_for_other_gpus_is_not_opened(tmp_path: Path) -> None:
    trt = Standin(opens=False)
    Worker(io.StringIO(), trt).build(None, request(tmp_path / "model.plan", opens=False))
    assert trt.opened == []
    assert (tmp_path / "model.plan").exists()


def test_unfused_tensors_are_marked_before_the_build_where_that_was_asked_for(tmp_path: Path) -> None:
    marked = []

    def mark() -> bool:
        marked.append(1)
        return True

    network = SimpleNamespace(mark_unfused_tensors_as_debug_tensors=mark)
    worker = Worker(io.StringIO(), Standin(opens=True))
    worker.build(network, request(tmp_path / "model.plan", opens=False))
    assert marked == []
    worker.build(network, request(tmp_path / "model.plan", opens=False, debug_tensors=True))
    assert marked == [1]


@pytest.mark.parametrize("network", [SimpleNamespace(), SimpleNamespace(mark_unfused_tensors_as_debug_tensors=bool)])
def test_a_version_without_debug_tensors_says_so_and_builds_nothing(tmp_path: Path, network: SimpleNamespace) -> None:
    channel = io.StringIO()
    with pytest.raises(SystemExit):
        Worker(channel, Standin(opens=True)).build(
            network, request(tmp_path / "model.plan", opens=False, debug_tensors=True)
        )
    assert "can't show tensors inside an engine" in json.dumps(said(channel)[-1])
    assert not list(tmp_path.iterdir())
