"""A TensorRT plan as a runtime: numpy arrays, or tensors of PyTorch, in and out, on the GPU that it was built for.

What can be told without a GPU is checked first, in this order: the plan is the one its manifest describes, the caller
trusts the code that it may hold, the flavour is installed in the plan's version, the plugin library is the one it was
built with. Only then is the vendor's library handed a byte of the plan, and those are the bytes that were checked.

None of this makes a plan of unknown origin safe: whoever can write the plan can write its manifest. So code for the
host is allowed to run by `trust` alone, whatever the manifest says of it; and what the engine reads and writes is asked
of the engine. The code for the GPU in a plan runs as it is: TensorRT knows no other way to open one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normexport import plugins
from normexport.dtypes import array_name
from normexport.engine import Manifest, read_manifest, require_same_plan
from normexport.engine.flavor import CURRENT, flavor, loading, require
from normexport.engine.manifest import Shape, check_bytes
from normexport.errors import EngineError, MissingComponent, UsageError
from normexport.runtime.base import Array, Feeds, Port, Sink, checked_feeds
from normexport.runtime.gpu_memory import TorchMemory, gpu_memory
from normexport.runtime.runtime_cache import RuntimeCache, check_cached
from normexport.runtime.tensorrt_ports import check_manifest, is_within, ports_of, profile_for

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

_MOST_GRAPHS = 8  # sets of input shapes with a context and a graph of their own; others run without


class TensorRTRuntime:
    """A plan on the current GPU.

    Args:
        plan: the plan; its manifest lies beside it.
        trust: open a plan that holds code for the host (an embedded plugin library).
        plugin_library: the library a plan without it needs; None: the one that was built here.
        graphs: replay a CUDA graph per set of input shapes, from its second run on.
        runtime_cache: a file of kernels that were compiled for this GPU before, read where it exists (rtx only);
            `save_runtime_cache` writes it.

    Raises:
        UsageError: no manifest, another plan than it describes, or untrusted code.
        MissingComponent: no GPU, or the flavour or the plugin library is missing.
        EngineError: the plan is for another GPU or version, or TensorRT refuses it.
    """

    passive_capture = False

    def __init__(
        self,
        plan: str | Path,
        *,
        trust: bool = False,
        plugin_library: str | Path | None = None,
        graphs: bool = True,
        runtime_cache: str | Path | None = None,
    ) -> None:
        plan = Path(plan)
        self.manifest = read_manifest(plan)
        require_same_plan(plan, self.manifest)
        if self.manifest.host_code and not trust:
            cause = "holds code that runs on this machine (its plugin library)"
            raise UsageError(str(plan), cause, "if you trust who built it, add --trust")
        which = flavor(self.manifest.flavor)
        if runtime_cache is not None:
            check_cached(which, Path(runtime_cache))
        require(which)
        library = _library(self.manifest, plugin_library)
        with loading(which):
            self._trt = import_module(which.module)
        _check_version(self.manifest, str(self._trt.__version__), plan)
        self._memory = gpu_memory()
        _check_target(self.manifest, self._memory.architecture, plan)
        self.name = which.title
        self.dropped: Mapping[str, str] = {}
        self._engine = self._open_engine(plan, library, trust=trust)
        self._ports = ports_of(self._trt, self._engine)
        check_manifest(self._ports, self.manifest, str(plan))
        self.inputs = tuple(_port(each.name, each.dtype, each.shape) for each in self._ports.inputs)
        self.input_names = tuple(each.name for each in self._ports.inputs)
        self.output_names = tuple(each.name for each in self._ports.outputs)
        self._cache = RuntimeCache(self._engine, Path(runtime_cache)) if runtime_cache is not None else None
        #: By profile: a context for runs without a graph.
        self._contexts = {0: self._new_context(0)}
        self._graphs = graphs and isinstance(self._memory, TorchMemory)
        #: By input shapes: a context of their own (a graph holds on to its context's state), then its graph.
        self._by_shapes: dict[tuple[tuple[int, ...], ...], Any] = {}

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        """As the protocol's; inner values are there where the plan was built with debug tensors, and not fused."""
        arrays = checked_feeds(self.name, self.inputs, feeds)
        self.dropped = dict.fromkeys(capture, "is inside the engine")
        types = {each.name: each.dtype for each in self._ports.inputs}
        tensors = {name: self._memory.upload(array, types[name]) for name, array in arrays.items()}
        if capture and self.manifest.options.get("debug_tensors") is True:
            return self._run_watched(tensors, capture, sink)
        return self._arrays(self.run_tensors(tensors))

    def _arrays(self, tensors: Tensors) -> dict[str, Array]:
        return {name: self._memory.download(tensor) for name, tensor in tensors.items()}

    def _run_watched(self, feeds: Tensors, capture: Collection[str], sink: Sink | None) -> dict[str, Array]:
        """Outputs and debug tensors of one run, in a context of its own."""
        from normexport.runtime.tensorrt_debug import DebugTensors

        profile = self._profile_of(self._shapes(feeds))
        context, captured = self._new_context(profile), dict[str, Array]()
        watched = DebugTensors(self._trt, context, self._memory, capture, sink or captured.__setitem__)
        outputs = self._arrays(self._directly(context, feeds))
        watched.check()  # the copies of the outputs have waited for the engine
        self.dropped = {name: "is fused inside the engine" for name in capture if name not in watched.given}
        return captured | outputs

    def run_tensors(self, feeds: Tensors) -> dict[str, torch.Tensor]:
        """Outputs for tensors on the GPU, on the current stream.

        With CUDA graphs the outputs of one set of shapes share their memory from run to run: clone what you keep.

        Raises:
            UsageError: an input is missing, or outside the profile.
            EngineError: the run fails.
        """
        shapes = self._shapes(feeds)
        known, profile = self._by_shapes.get(shapes), self._profile_of(shapes)
        if not self._graphs or (known is None and len(self._by_shapes) == _MOST_GRAPHS):
            if profile not in self._contexts:
                self._contexts[profile] = self._new_context(profile)
            return self._directly(self._contexts[profile], feeds)
        if known is None:  # the first run of a set of shapes lets TensorRT prepare, the second is captured
            self._by_shapes[shapes] = context = self._new_context(profile)
            return self._directly(context, feeds)
        if not isinstance(known, _Captured):
            self._by_shapes[shapes] = known = self._capture_graph(known, feeds)
        return known.replay(feeds)

    def _directly(self, context: Any, feeds: Tensors) -> dict[str, torch.Tensor]:
        inputs = {name: feeds[name].contiguous() for name in self.input_names}
        outputs = self._bound(context, inputs)
        self._execute(context)
        return outputs

    def _shapes(self, feeds: Tensors) -> tuple[tuple[int, ...], ...]:
        """Shapes in the order of the inputs; the engine would read whatever lies at an address, so all is checked."""
        for each in self._ports.inputs:
            if each.name not in feeds:
                raise UsageError(f"input {each.name}", "is missing", f"feed {', '.join(self.input_names)}")
            given = feeds[each.name]
            kind, shape = str(given.dtype).removeprefix("torch."), tuple(given.shape)
            if kind != each.dtype or given.device.type != self._memory.place:
                cause = f"is {kind} on {given.device.type}, and {each.dtype} on {self._memory.place} is needed"
                raise UsageError(f"input {each.name}", cause, "convert it first")
            if not any(is_within(shape, low, high) for low, _, high in each.profiles):
                spans = " and ".join(f"{low} to {high}" for low, _, high in each.profiles)
                word = "profile" if len(each.profiles) == 1 else "profiles"
                raise UsageError(f"input {each.name}", f"{shape} is outside the {word} {spans}", "rebuild it")
        return tuple(tuple(feeds[name].shape) for name in self.input_names)

    def _profile_of(self, shapes: Sequence[Shape]) -> int:
        profile = profile_for(self._ports.inputs, shapes)
        if profile is None:
            told = ", ".join(f"{name} {shape}" for name, shape in zip(self.input_names, shapes, strict=True))
            raise UsageError("inputs", f"no profile of the plan has all their shapes ({told})", "rebuild it")
        return profile

    def _bound(self, context: Any, inputs: Tensors) -> dict[str, torch.Tensor]:
        """Tell the context where everything lies; outputs are new."""
        for name, tensor in inputs.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise UsageError(f"input {name}", f"shape {tuple(tensor.shape)} is not accepted", "rebuild the plan")
            context.set_tensor_address(name, tensor.data_ptr())
        outputs = {}
        for each in self._ports.outputs:
            shape = tuple(context.get_tensor_shape(each.name))
            if any(size < 0 for size in shape):
                raise EngineError(f"output {each.name}", "has a size that depends on the data", "export it otherwise")
            outputs[each.name] = self._memory.empty(shape, each.dtype)
            context.set_tensor_address(each.name, outputs[each.name].data_ptr())
        return outputs

    def _execute(self, context: Any) -> None:
        if not context.execute_async_v3(self._memory.stream):
            raise EngineError(self.name, "the engine can't run", "see what it logged")

    def _capture_graph(self, context: Any, feeds: Tensors) -> _Captured:
        import torch

        own = {name: feeds[name].clone(memory_format=torch.contiguous_format) for name in self.input_names}
        outputs = self._bound(context, own)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            self._execute(context)
        return _Captured(graph, own, outputs)

    def save_runtime_cache(self) -> None:
        """Write the kernels compiled so far to the file `runtime_cache`; nothing where none was named.

        Raises:
            UsageError: it can't be written.
        """
        if self._cache is not None:
            self._cache.save()

    def _new_context(self, profile: int) -> Any:
        known = {} if self._cache is None else {"runtime_config": self._cache.config}
        context = self._engine.create_execution_context(**known)
        if context is None:
            raise EngineError(self.name, "no execution context can be made", "free GPU memory")
        if self._engine.num_optimization_profiles > 1:
            stream = self._memory.stream
            if not context.set_optimization_profile_async(profile, stream):
                raise EngineError(self.name, f"profile {profile + 1} can't be used", "free GPU memory")
        return context

    def _open_engine(self, plan: Path, library: Path | None, *, trust: bool) -> Any:
        logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = self._trt.Runtime(logger)
        self._runtime.engine_host_code_allowed = trust and self.manifest.host_code
        if library is not None and self._runtime.get_plugin_registry().load_library(str(library)) is None:
            raise EngineError(str(library), "can't be loaded", f"see: normexport plugins doctor {library}")
        content = plan.read_bytes()
        check_bytes(content, self.manifest, plan)  # it may be another file by now
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise EngineError(str(plan), f"{self.name} can't open it", "build it on this machine: --target current")
        return engine


class _Captured:
    """A CUDA graph and the tensors that it reads and writes."""

    def __init__(self, graph: Any, inputs: Tensors, outputs: dict[str, torch.Tensor]) -> None:
        self._graph, self._inputs, self._outputs = graph, inputs, outputs

    def replay(self, feeds: Tensors) -> dict[str, torch.Tensor]:
        for name, tensor in self._inputs.items():
            tensor.copy_(feeds[name])
        self._graph.replay()
        return self._outputs


def _library(manifest: Manifest, given: str | Path | None) -> Path | None:
    """The plugin library that has to be loaded beside the plan, checked to be the one it was built with."""
    if manifest.plugin is None or manifest.embedded:
        return None
    # By its whole path: the loader looks for a bare name in the system's folders, not where it was checked.
    path = Path(given).resolve() if given is not None else plugins.require("tensorrt")
    if not path.is_file():
        raise MissingComponent(str(path), "does not exist", "name the plan's plugin library")
    from normexport.engine.manifest import FileId

    if FileId.of(path).sha256 != manifest.plugin.sha256:
        raise UsageError(str(path), "is not the plugin library that the plan was built with", "rebuild the plan")
    return path


def _check_version(manifest: Manifest, version: str, plan: Path) -> None:
    same = version.split(".")[:2] == manifest.flavor_version.split(".")[:2]
    if not same and not manifest.options.get("version_compatible"):
        cause = f"was built with version {manifest.flavor_version}, version {version} is installed"
        raise EngineError(str(plan), cause, "build it again")


def _check_target(manifest: Manifest, here: str, plan: Path) -> None:
    built_for_it = here in manifest.targets or CURRENT in manifest.targets
    if not built_for_it and not manifest.options.get("hardware_compatible"):
        cause = f"was built for {', '.join(manifest.targets)}, and this GPU is {here}"
        raise EngineError(str(plan), cause, f"build it for {here}")


def _port(name: str, dtype: str, shape: tuple[int, ...]) -> Port:
    """Types that numpy lacks travel as float32 and are rounded on the device."""
    return Port(name, array_name(dtype), tuple(None if size < 0 else size for size in shape))


@dataclass(frozen=True)
class Plan:
    """A plan to be opened, and how far its holder trusts it."""

    path: Path
    trust: bool = False
    plugin_library: Path | None = None
    runtime_cache: Path | None = None

    def runtime(self, *, graphs: bool = False) -> TensorRTRuntime:
        """Opened on this machine's GPU. Raises what `TensorRTRuntime` raises."""
        return TensorRTRuntime(
            self.path,
            trust=self.trust,
            plugin_library=self.plugin_library,
            graphs=graphs,
            runtime_cache=self.runtime_cache,
        )
