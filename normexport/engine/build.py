"""ONNX -> TensorRT plan and its manifest, built in a child process, written together or not at all."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx_ir as ir

import normexport
from normexport import plugins
from normexport.engine import prove
from normexport.engine.child import Child
from normexport.engine.config import EngineConfig, OnStage
from normexport.engine.flavor import check_targets, flavor, require
from normexport.engine.manifest import FileId, Manifest, NetworkLayer, Tensor, manifest_path, manifest_text
from normexport.engine.prepare import NAMESPACE, Prepared, prepare
from normexport.engine.shapes import Profile, profiles
from normexport.errors import EngineError, FoldError, MissingComponent
from normexport.files import check_writable, replacing, write_text
from normexport.module_paths import module_path
from normexport.onnx_files import open_onnx, save_onnx

_DEFAULT = EngineConfig()
_ORIGIN = re.compile(r"\[ONNX Layer: (.*)\]")


def build_engine(
    source: str | Path, output: str | Path, config: EngineConfig = _DEFAULT, on_stage: OnStage | None = None
) -> Manifest:
    """Build the plan of an ONNX file; writes `output` and `output`.json.

    Raises:
        EngineError: the file, the shapes, the targets or the vendor's builder refuse; nothing is written then.
        MissingComponent: the flavour or the plugin library is not installed, or a GPU is needed.
        UsageError: no such file, or an output that can't be written.
    """
    source, output = Path(source), Path(output)
    on_stage = on_stage or (lambda stage: None)
    which = flavor(config.flavor)
    targets = config.targets or which.default_targets
    check_targets(which, targets)
    require(which)
    check_writable(output.parent)
    library = _plugin_library(config)
    clock = _Clock()
    with Child(which, [library] if library else [], config.timeout) as child, tempfile.TemporaryDirectory() as folder:
        try:
            on_stage("open")
            model = _opened(source)
            asked = profiles(model, config.shapes)
            clock.mark("open")
            on_stage("load")
            hello = child.hello()
            clock.mark("load")
            prepared = prepare(model, *_served(hello["creators"]))
            onnx = source if prepared.model is model else Path(folder, "model.onnx")
            if onnx != source:
                save_onnx(prepared.model, onnx)
            clock.mark("prepare")
            with replacing(manifest_path(output)) as beside, replacing(output) as plan:
                embedded = config.embed_plugins and bool(prepared.plugins)
                embed = [str(library.resolve())] if library and embedded else []
                network = child.build(_request(onnx, plan, config, targets, asked, embed), on_stage)
                clock.mark("build")
                prove.check_plugins(prepared, network["layers"])
                prove.check_precision(prepared.model, network["layers"], config.precision)
                manifest = Manifest(
                    plan=FileId.of(plan, output.name),
                    onnx=FileId.of(source),
                    plugin=FileId.of(library) if library and prepared.plugins else None,
                    embedded=embedded,
                    host_code=embedded or config.version_compatible,
                    normexport=normexport.__version__,
                    flavor=which.name,
                    flavor_version=hello["version"],
                    targets=targets,
                    options=_options(config),
                    warnings=tuple(dict.fromkeys(child.warnings)),
                    seconds=clock.seconds,
                    **_described(network, prepared, asked),
                )
                beside.write_text(manifest_text(manifest))
        finally:
            if config.log is not None:
                write_text(Path(config.log), child.log())
    return manifest


def _opened(source: Path) -> ir.Model:
    try:
        return open_onnx(source)
    except FoldError as error:
        raise EngineError(error.place, error.cause, error.remedy) from error


def _plugin_library(config: EngineConfig) -> Path | None:
    if not config.plugins:
        return None
    if config.plugin_library is None:
        return plugins.find("tensorrt")
    path = Path(config.plugin_library)
    if not path.is_file():
        raise MissingComponent(str(path), "does not exist", "run: normexport plugins build")
    return path


def _served(creators: Sequence[Sequence[str]]) -> tuple[frozenset[str], frozenset[str]]:
    """Operators that our plugin computes, and the names of all other creators."""
    ours = frozenset(name for name, namespace, _ in creators if namespace == NAMESPACE)
    return ours, frozenset(name for name, _, _ in creators) - ours


def _request(
    onnx: Path,
    plan: Path,
    config: EngineConfig,
    targets: Sequence[str],
    asked: Sequence[Profile],
    embed: Sequence[str],
) -> dict[str, Any]:
    flags = {
        "VERSION_COMPATIBLE": config.version_compatible,
        "WEIGHT_STREAMING": config.weight_streaming,
        "REFIT": config.refit,
    }
    return {
        "onnx": str(onnx),
        "plan": str(plan),
        "targets": list(targets),
        "profiles": [asdict(each) for each in asked],
        "workspace": config.workspace,
        "optimization_level": config.optimization_level,
        "flags": [name for name, wanted in flags.items() if wanted],
        "hardware_compatible": config.hardware_compatible,
        "timing_cache": None if config.timing_cache is None else str(config.timing_cache),
        "embed": list(embed),
    }


def _described(network: Mapping[str, Any], prepared: Prepared, asked: Sequence[Profile]) -> dict[str, Any]:
    """What the manifest says of the network."""
    modules = {str(node.name): module_path(node) for node in prepared.model.graph if node.name}
    shapes = {each.name: each for each in asked}
    return {
        "inputs": tuple(_tensor(each, shapes.get(each["name"])) for each in network["inputs"]),
        "outputs": tuple(_tensor(each, None) for each in network["outputs"]),
        "layers": tuple(_layer(each, modules) for each in network["layers"]),
        "precision": prove.precisions(network["layers"]),
        "plugins": tuple((each.node, each.op, each.module) for each in prepared.plugins),
        "bodies": prepared.bodies,
    }


def _tensor(tensor: Mapping[str, Any], profile: Profile | None) -> Tensor:
    known = tensor["name"], prove.dtype(tensor["dtype"]), tuple(tensor["shape"])
    if profile is None:
        return Tensor(*known)
    return Tensor(*known, profile.smallest, profile.expected, profile.largest)


def _layer(layer: Mapping[str, Any], modules: Mapping[str, str]) -> NetworkLayer:
    origin = _ORIGIN.fullmatch(layer["origin"] or "")
    node = origin[1] if origin else layer["name"] if layer["name"] in modules else ""
    kind = prove.dtype(layer["outputs"][0]["dtype"]) if layer["outputs"] else ""
    return NetworkLayer(layer["name"], layer["type"], kind, node, modules.get(node, ""))


def _options(config: EngineConfig) -> dict[str, Any]:
    """The options that shape the plan; paths stay out of a file that travels."""
    local = ("flavor", "targets", "shapes", "plugin_library", "timing_cache", "timeout", "log")
    return {key: value for key, value in asdict(config).items() if key not in local}


class _Clock:
    """Wall times of stages."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now
