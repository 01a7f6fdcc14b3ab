"""ONNX -> TensorRT plan and its manifest, built in a child process, written together or not at all.

What takes time runs side by side. The child starts first, and loads the vendor's libraries; so this module imports only
what is cheap. A file without an operator of ours and without external data needs no preparation: the child parses and
builds it as it is, once it has been read here, without its weights, and checked. That takes onnx alone: onnx_ir and its
sympy take 0.3 s to load.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from normexport import plugins
from normexport._version import __version__
from normexport.dtypes import FLOAT8
from normexport.engine.builder_process import BuilderProcess
from normexport.engine.config import EngineConfig, OnStage, check_options
from normexport.engine.flavor import Flavor, check_float8, check_targets, flavor, has_float8, require
from normexport.engine.manifest import FileId, Manifest, manifest_path, manifest_text
from normexport.engine.request import options_of, request_of
from normexport.engine.shapes import Profile, all_profiles
from normexport.errors import EngineError, FoldError, MissingComponent
from normexport.io.atomic import check_writable, replacing_all, scratch, write_text
from normexport.io.onnx_scan import NAMESPACE, is_plain
from normexport.io.onnx_walk import holds_float8
from normexport.io.overwriting import check_outputs
from normexport.logs import logger

if TYPE_CHECKING:
    import onnx

    from normexport.engine.prepare import PluginNode, Prepared

T = TypeVar("T")

_DEFAULT = EngineConfig()
_LOG = logger(__name__)


def build_engine(
    source: str | Path,
    output: str | Path,
    config: EngineConfig = _DEFAULT,
    on_stage: OnStage | None = None,
    ahead: BuilderProcess | None = None,
) -> Manifest:
    """Build the plan of an ONNX file; writes `output` and `output`.json.

    Args:
        source: the ONNX file.
        output: the plan to write; an engine for every target lies in it.
        config: for which GPUs and shapes, and how.
        on_stage: called with the name of each stage as it begins.
        ahead: a child process that was started before, used (up) where it is one of the configured flavour.

    Raises:
        EngineError: the file, the shapes, the targets or the vendor's builder refuse; nothing is written then.
        MissingComponent: the flavour or the plugin library is not installed, or a GPU is needed.
        UsageError: no such file, or an output that can't be written or would take the place of what is read.
    """
    source, output = Path(source), Path(output)
    which, targets = check_engine(config)
    check_writable(output.parent)
    library = _plugin_library(config)
    _check_outputs(source, output, library, config)
    build = _Build(source, config, targets, library, on_stage or (lambda stage: None))
    with ahead if ahead is not None and ahead.flavor == which else BuilderProcess(which) as child:
        try:
            cache = () if config.timing_cache is None else (Path(config.timing_cache),)
            context = () if config.ep_context is None else (Path(config.ep_context),)
            with replacing_all(*cache, *context, manifest_path(output), output) as (*more, beside, plan):
                manifest = build.run(child, plan, output.name, *more[: len(cache)])
                beside.write_text(manifest_text(manifest))
                for around in more[len(cache) :]:
                    from normexport.engine.ep_context import write_ep_context

                    write_ep_context(around, config, manifest, plan, output)
        finally:
            if config.log is not None:
                write_text(Path(config.log), child.log())
    _LOG.info("%s: built for %s, bytes: %d", output, ", ".join(manifest.targets), manifest.plan.bytes)
    return manifest


def _check_outputs(source: Path, output: Path, library: Path | None, config: EngineConfig) -> None:
    outputs = [(output, "the plan"), (manifest_path(output), "its manifest"), *config.side_files()]
    inputs = [(source, "the model"), *([(library, "the plugin library")] if library is not None else [])]
    check_outputs(outputs, inputs)
    if config.ep_context is not None:
        from normexport.engine.ep_context import check_ep_context

        check_ep_context(config, output)
    if any(path.exists() for path, _ in outputs):  # one that is not there holds no weights
        from normexport.io.weight_files import data_of_proto

        data = data_of_proto(_read_model(source, config, floats=False), source.parent)
        check_outputs(outputs, [(path, f"the data of {source.name}") for path in data])


def check_engine(config: EngineConfig) -> tuple[Flavor, tuple[str, ...]]:
    """The flavour and the targets of a build, before anything slow is done for it.

    Raises:
        EngineError: a target that the flavour does not build for.
        MissingComponent: the flavour is not installed.
        UsageError: an option that the flavour does not have.
    """
    which = flavor(config.flavor)
    targets = config.targets or which.default_targets
    check_targets(which, targets)
    check_options(which, config)
    require(which)
    return which, _with_float8(targets, config) if config.precision == FLOAT8.name else targets


def _with_float8(targets: tuple[str, ...], config: EngineConfig) -> tuple[str, ...]:
    """Those of the default targets that multiply 8-bit floating numbers; such as were asked for all have to.

    Raises:
        EngineError: one that was asked for does not.
    """
    check_float8(config.targets)
    return tuple(filter(has_float8, targets))


class _Build:
    """One build: its inputs, and its wall times by stage."""

    def __init__(
        self, source: Path, config: EngineConfig, targets: tuple[str, ...], library: Path | None, on_stage: OnStage
    ) -> None:
        self._source, self._config, self._targets, self._library = source, config, targets, library
        self._on_stage = on_stage
        self._seconds: dict[str, float] = {}
        self._timings: Path | None = None

    def run(self, child: BuilderProcess, plan: Path, name: str, timings: Path | None = None) -> Manifest:
        """Build into the file `plan`, which will be called `name`; measured tactics go to the file `timings`."""
        self._timings = timings
        with scratch() as folder:
            known = self._begin(child, plan, folder / "model.onnx")
            digest = self._run_timed("build", lambda: child.finish(self._on_stage))
        return Manifest(
            plan=FileId(name, plan.stat().st_size, digest),
            warnings=(*child.warnings(), *known.pop("warnings")),
            seconds=self._seconds,
            **known,
        )

    def _begin(self, child: BuilderProcess, plan: Path, copy: Path) -> dict[str, Any]:
        """Let the child build; meanwhile prove what it builds, and gather what the manifest says of it.

        `copy` is where the prepared model goes, if it has to be prepared. All models are gone from memory on return.
        """
        as_it_is = is_plain(self._source)
        with ThreadPoolExecutor(1) as thread:
            reading = thread.submit(_read_model, self._source, self._config, floats=not as_it_is)
            identity = thread.submit(FileId.of, self._source)
            libraries = [self._library] if self._library is not None else []
            hello = self._run_timed("load", lambda: child.hello(libraries, self._config.timeout))
            source = _Source(self._source, self._config, hello["creators"])
            if holds_float8(reading.result()):
                self._targets = _with_float8(self._targets, self._config)
            plugins: Sequence[PluginNode] = ()
            bodies: Sequence[str] = ()
            if as_it_is:
                parsed = source.checked(reading.result())
                network = self._run_timed("parse", lambda: child.parse(self._source))
                shapes = self._start(child, network, plan, [])
            else:
                prepared = self._run_timed("prepare", lambda: source.prepared(reading.result()))
                plugins, bodies = prepared.plugins, prepared.bodies
                self._run_timed("save", lambda: _save(prepared, copy))
                reading = thread.submit(_read_model, copy, self._config, floats=False)
                network = self._run_timed("parse", lambda: child.parse(copy))
                shapes = self._start(child, network, plan, self._libraries_to_embed(plugins))
                parsed = reading.result()
        _prove(parsed.graph, plugins, network, self._config.precision)
        from normexport.engine.manifest_fields import manifest_fields

        embedded = bool(self._libraries_to_embed(plugins))
        return {
            "onnx": identity.result(),
            "plugin": FileId.of(self._library) if self._library is not None and plugins else None,
            "embedded": embedded,
            "host_code": embedded or self._config.version_compatible,
            "normexport": __version__,
            "flavor": flavor(self._config.flavor).name,
            "flavor_version": hello["version"],
            "targets": self._targets,
            "options": options_of(self._config),
            "warnings": self._coverage(plugins),
            "plugins": tuple((each.node, each.op, each.module) for each in plugins),
            "bodies": tuple(bodies),
            **manifest_fields(network, parsed.graph, shapes),
        }

    def _start(
        self, child: BuilderProcess, network: dict[str, Any], plan: Path, embed: Sequence[str]
    ) -> tuple[tuple[Profile, ...], ...]:
        shapes = all_profiles(network["inputs"], self._config.ranges)
        if self._config.ep_context is not None and (embed or self._config.version_compatible):
            from normexport.engine.ep_context import refuse_host_code

            refuse_host_code(self._config.ep_context)
        child.start(request_of(plan, self._timings, self._config, self._targets, shapes, embed))
        return shapes

    def _libraries_to_embed(self, plugins: Sequence[PluginNode]) -> list[str]:
        wanted = self._config.embed_plugins and plugins and self._library is not None
        return [str(self._library.resolve())] if wanted and self._library is not None else []

    def _coverage(self, plugins: Sequence[PluginNode]) -> tuple[str, ...]:
        from normexport.engine.coverage import coverage_warnings

        return coverage_warnings(self._library, self._targets) if plugins and self._library else ()

    def _run_timed(self, name: str, step: Callable[[], T]) -> T:
        self._on_stage(name)
        start = time.perf_counter()
        result = step()
        self._seconds[name] = round(time.perf_counter() - start, 3)
        _LOG.debug("%s took %.3f s", name, self._seconds[name])
        return result


@dataclass(frozen=True)
class _Source:
    """The file to build from, and the plugin creators there are, each with its name, namespace and version."""

    path: Path
    config: EngineConfig
    creators: Sequence[tuple[str, str, str]]

    def checked(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """What is in the file, once nothing speaks against it.

        Raises:
            EngineError: no engine can be built from it.
        """
        from normexport.engine.checks import check_operators, check_zero_points
        from normexport.io.external_data import ExternalFiles

        check_operators(model, {name for name, namespace, _ in self.creators if namespace != NAMESPACE})
        with _as_engine_error():
            check_zero_points(model, ExternalFiles(self.path.parent, self.config.data_folder))
        return model

    def prepared(self, model: onnx.ModelProto) -> Prepared:
        """What the parser is to read in its place."""
        from normexport.engine.prepare import prepare
        from normexport.io.onnx_model import model_from_proto

        with _as_engine_error():
            opened = model_from_proto(self.checked(model), self.path, self.config.data_folder)
        return prepare(opened, {name for name, namespace, _ in self.creators if namespace == NAMESPACE})


def _read_model(path: Path, config: EngineConfig, *, floats: bool = True) -> onnx.ModelProto:
    from normexport.io.onnx_read import read_onnx

    with _as_engine_error():
        return read_onnx(path, floats=floats, weights_under=config.data_folder)


@contextmanager
def _as_engine_error() -> Iterator[None]:
    try:
        yield
    except FoldError as error:
        raise EngineError(error.place, error.cause, error.remedy) from error


def _save(prepared: Prepared, path: Path) -> None:
    from normexport.io.onnx_model import save_onnx

    save_onnx(prepared.model, path)


def _prove(
    graph: onnx.GraphProto, plugins: Sequence[PluginNode], network: dict[str, Any], precision: str | None
) -> None:
    from normexport.engine import verify

    verify.check_plugins(graph, plugins, network["layers"])
    verify.check_precision(graph, network["layers"], precision)


def _plugin_library(config: EngineConfig) -> Path | None:
    if not config.plugins:
        return None
    if config.plugin_library is None:
        return plugins.find("tensorrt")
    path = Path(config.plugin_library)
    if not path.is_file():
        raise MissingComponent(str(path), "does not exist", "run: normexport plugins build --tensorrt")
    return path
