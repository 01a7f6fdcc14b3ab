"""The child process in which TensorRT parses and builds. A script of its own: standard library and TensorRT only.

    python worker.py CHANNEL MODULE

Vendor libraries may abort; here that costs this process, not the caller. Three requests come by standard input, one
JSON object a line: the plugin libraries to load, what to parse, how to build it. Answers go through the file descriptor
CHANNEL, one JSON object a line: "hello" (version, plugin creators) once the libraries are loaded, "parsed" (the
network), "stage" as a phase of the builder begins, "done" (the plan's SHA-256); or "failed", and that is the end.
TensorRT's own logger writes to standard error: a logger in Python is handed every verbose line and doubles the time of
a build.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn


def main() -> None:
    """Load, greet, parse, build."""
    with suppress(ValueError):  # this file's folder: its neighbours must not answer to other packages' imports
        sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
    number, module = sys.argv[1:]
    channel = os.fdopen(int(number), "w")
    try:
        trt = importlib.import_module(module)
    except Exception as error:  # bindings without the libraries that they call, or of another Python
        fail(channel, "import", str(error) or type(error).__name__)
    worker = Worker(channel, trt)
    worker.load(_request()["libraries"])
    network = worker.parse(_request()["onnx"])
    request = _request()
    threading.Thread(target=_leave_with_the_caller, daemon=True).start()
    worker.build(network, request)


def say(channel: Any, **message: Any) -> None:
    """One message to the caller."""
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def fail(channel: Any, stage: str, cause: str = "", node: str = "") -> NoReturn:
    """Say why it ends here, and end."""
    say(channel, failed={"stage": stage, "cause": cause, "node": node})
    sys.exit(0)


def _request() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)  # the caller is gone
    request: dict[str, Any] = json.loads(line)
    return request


def _leave_with_the_caller() -> None:
    sys.stdin.read()
    os._exit(1)


class Worker:
    """One build with one flavour's module `trt`."""

    def __init__(self, channel: Any, trt: Any) -> None:
        self._channel, self._trt = channel, trt
        self._libraries: list[str] = []
        self._logger = trt.Logger(trt.Logger.INFO)
        if hasattr(trt, "init_libnvinfer_plugins"):
            trt.init_libnvinfer_plugins(self._logger, "")
        try:
            self._builder = trt.Builder(self._logger)
        except TypeError:  # what the bindings make of no builder: there is no GPU, or no driver that serves it
            self.fail("builder")

    def say(self, **message: Any) -> None:
        """One message to the caller."""
        say(self._channel, **message)

    def fail(self, stage: str, cause: str = "", node: str = "") -> NoReturn:
        """Say why it ends here, and end. Without a cause, the last error in the log is one."""
        fail(self._channel, stage, cause, node)

    def load(self, libraries: list[str]) -> None:
        """Register the creators of the plugin libraries, and say who is there."""
        self._libraries = libraries
        registry = self._builder.get_plugin_registry()
        for library in libraries:
            if registry.load_library(library) is None:
                self.fail("plugins")
        creators = [[each.name, each.plugin_namespace, each.plugin_version] for each in registry.all_creators]
        self.say(hello={"version": self._trt.__version__, "creators": creators})

    def parse(self, path: str) -> Any:
        """The network of an ONNX file; says what is in it."""
        strongly_typed = getattr(self._trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = self._builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
        parser = self._trt.OnnxParser(network, self._logger)
        if not parser.parse_from_file(path):
            if not parser.num_errors:
                self.fail("parse")
            first = parser.get_error(0)
            node = first.node_name() or first.node_operator()
            self.fail("parse", first.desc(), f"{first.node_operator()} {node}" if node else "")
        self._parser = parser  # the network reads weights out of it
        self.say(parsed=describe(network))
        return network

    def build(self, network: Any, request: dict[str, Any]) -> None:
        """Configure, build, write request["plan"]; open it first where it is for the GPU at hand."""
        if request["debug_tensors"]:
            mark = getattr(network, "mark_unfused_tensors_as_debug_tensors", None)
            if mark is None or not mark():
                self.fail("config", f"version {self._trt.__version__} can't show tensors inside an engine")
        config = self._builder_config(request)
        plan = self._builder.build_serialized_network(network, config)
        if plan is None:
            self.fail("build")
        if request["opens"]:
            self._open(plan, request["embed"])
        digest = hashlib.sha256()
        hashing = threading.Thread(target=digest.update, args=(plan,))  # 100 MB: 60 ms, and as much to write
        hashing.start()
        try:
            Path(request["plan"]).write_bytes(plan)
            self._keep_timings(config, request["timings"])
        except OSError as error:
            self.fail("write", f"can't be written ({error.strerror})", error.filename or request["plan"])
        hashing.join()
        self.say(done=digest.hexdigest())

    def _open(self, plan: Any, embedded: list[str]) -> None:
        """A builder builds for any GPU, even where its own runtime refuses it: TensorRT for RTX 1.7.1 on an H200."""
        self.say(stage="open")
        runtime = self._trt.Runtime(self._logger)
        runtime.engine_host_code_allowed = True  # the library in the plan is one that was loaded here already
        for library in self._libraries:
            if library not in embedded:
                runtime.get_plugin_registry().load_library(library)
        if runtime.deserialize_cuda_engine(plan) is None:
            self.fail("open")

    def _builder_config(self, request: dict[str, Any]) -> Any:
        trt, config = self._trt, self._builder.create_builder_config()
        config.progress_monitor = _monitor(trt, lambda stage: self.say(stage=stage))
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if request["workspace"] is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request["workspace"])
        if request["optimization_level"] is not None:
            config.builder_optimization_level = request["optimization_level"]
        for name in request["flags"]:
            config.set_flag(getattr(trt.BuilderFlag, name))
        if not request["tf32"]:
            config.clear_flag(trt.BuilderFlag.TF32)  # it is on by default
        if request["hardware_compatible"]:
            config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if request["embed"]:
            config.plugins_to_serialize = request["embed"]
        self._aim(config, request["targets"])
        for profile in request["profiles"]:
            self._add_profile(config, profile)
        if request["timing_cache"] is not None:
            path = Path(request["timing_cache"])
            cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
            if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
                self.fail("config", f"{path} is not a timing cache of this version and GPU")
        return config

    def _aim(self, config: Any, targets: list[str]) -> None:
        if not hasattr(config, "set_compute_capability"):
            return  # builds for the GPU at hand
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            capability = getattr(self._trt.ComputeCapability, target.upper(), None)
            if capability is None:
                self.fail("target", f"{target} is not known to version {self._trt.__version__}")
            if not config.set_compute_capability(capability, index):
                self.fail("target")

    def _add_profile(self, config: Any, inputs: list[dict[str, Any]]) -> None:
        profile = self._builder.create_optimization_profile()
        for each in inputs:
            profile.set_shape(each["name"], each["smallest"], each["expected"], each["largest"])
        if inputs and config.add_optimization_profile(profile) < 0:
            self.fail("profile", "the shapes are not accepted")

    def _keep_timings(self, config: Any, path: str | None) -> None:
        cache = config.get_timing_cache() if path is not None else None
        if cache is not None and path is not None:
            Path(path).write_bytes(cache.serialize())


def _monitor(trt: Any, begun: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # trt is Any: TensorRT may be missing
        """Names the builder's phases as they begin."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            begun(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return True

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()


def describe(network: Any) -> dict[str, Any]:
    """Inputs, outputs and layers of a parsed network: names, dtypes and shapes (-1: dynamic)."""

    def tensor(value: Any) -> dict[str, Any]:
        return {"name": value.name, "dtype": value.dtype.name.lower(), "shape": list(value.shape)}

    def layer(each: Any) -> dict[str, Any]:
        inputs = [each.get_input(index) for index in range(each.num_inputs)]
        outputs = [each.get_output(index) for index in range(each.num_outputs)]
        return {
            "name": each.name,
            "type": each.type.name,
            "origin": getattr(each, "metadata", ""),
            "inputs": [tensor(value) for value in inputs if value is not None],
            "outputs": [tensor(value) for value in outputs if value is not None],
        }

    return {
        "inputs": [tensor(network.get_input(index)) for index in range(network.num_inputs)],
        "outputs": [tensor(network.get_output(index)) for index in range(network.num_outputs)],
        "layers": [layer(network.get_layer(index)) for index in range(network.num_layers)],
    }


if __name__ == "__main__":
    main()
