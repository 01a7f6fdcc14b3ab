"""A plan inside an ONNX file: what ONNX Runtime's TensorRT providers open without building anything.

The file has one node, `EPContext` of the domain `com.microsoft`, with the plan's inputs and outputs. The plan lies in
its attribute `ep_cache_context` (embed_mode 1), or is the file that this names (embed_mode 0), in the same folder or
below. The attributes are those that the RTX provider itself writes (onnx_ctx_model_helper.cc); it reads `embed_mode`,
`ep_cache_context`, `hardware_architecture` to warn of another GPU, and `partition_name` to name its runtime cache.
`source` is left out: the provider inside ONNX Runtime and the one that installs beside it go by different names, and
both take a node without it.
"""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from normexport.dtypes import FLOATS
from normexport.engine.config import EngineConfig
from normexport.engine.flavor import CURRENT
from normexport.engine.manifest import Manifest, PlanTensor
from normexport.errors import EngineError, UsageError
from normexport.io.atomic import check_writable

#: What protobuf, and so an ONNX file, holds at most; the rest of the file has less than the difference to 2 GiB.
_MOST_BYTES = (1 << 31) - (1 << 20)
_OPSET, _IR_VERSION = 20, 10
_INTEGERS = {
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}


def check_ep_context(config: EngineConfig, output: Path) -> None:
    """Refuse, before anything is built, a file around the plan `output` that could not be written or not be used.

    Raises:
        UsageError: its folder can't be written, or it can't name the plan.
    """
    if config.ep_context is None:
        return
    check_writable(Path(config.ep_context).parent)
    if not config.ep_context_embed:
        name_in_context(Path(config.ep_context), output)


def write_ep_context(staged: Path, config: EngineConfig, manifest: Manifest, plan: Path, output: Path) -> None:
    """Write the file around a plan that lies at `plan` now and will at `output`.

    Args:
        staged: where to write what will lie at `config.ep_context`.

    Raises:
        EngineError: see `ep_context_model`.
    """
    if config.ep_context_embed or config.ep_context is None:
        model = ep_context_model(manifest, content=plan.read_bytes())
    else:
        model = ep_context_model(manifest, name=name_in_context(Path(config.ep_context), output))
    staged.write_bytes(model.SerializeToString())


def name_in_context(context: Path, plan: Path) -> str:
    """What the file `context` calls the plan: its path below the folder of that file.

    Raises:
        UsageError: providers would not read it there.
    """
    name = os.path.relpath(os.path.realpath(plan), os.path.realpath(context.parent))
    if ".." in name:  # anywhere in it: the provider looks for the two characters
        cause = f"can't name the plan {plan}: providers read one in the same folder or below, without '..' in its path"
        raise UsageError(str(context), cause, "put them into one folder, or add --ep-context-embed")
    return name


def refuse_host_code(context: str | Path) -> None:
    """Refuse the plan that is about to be built: it holds code for the host, and no provider allows a plan that.

    Raises:
        EngineError: always.
    """
    cause = "would wrap a plan that holds code for the host, which ONNX Runtime's providers do not open"
    remedy = "build it with --no-plugins, or with --no-embed and load the plugin library in the program that runs it"
    raise EngineError(str(context), cause, remedy)


def ep_context_model(manifest: Manifest, *, content: bytes | None = None, name: str = "") -> onnx.ModelProto:
    """The ONNX model around a plan.

    Args:
        content: the plan, to be held by the model; None: the model names it.
        name: the plan's path, from the folder of the file that the model is written to.

    Raises:
        EngineError: the plan is too large to be held, or reads or writes a type that ONNX Runtime's tensors lack.
    """
    if content is not None and len(content) > _MOST_BYTES:
        cause = f"has {len(content)} bytes, and an ONNX file holds {_MOST_BYTES} of it"
        raise EngineError("the plan", cause, "leave --ep-context-embed out")
    inputs, outputs = ([_value(each) for each in ends] for ends in (manifest.inputs, manifest.outputs))
    partition = f"normexport_{manifest.plan.sha256[:16]}"
    node = helper.make_node(
        "EPContext",
        [each.name for each in inputs],
        [each.name for each in outputs],
        partition,
        domain="com.microsoft",
        main_context=0,  # as the provider writes it: each node has its own plan
        embed_mode=0 if content is None else 1,
        ep_cache_context=name.encode() if content is None else content,
        ep_sdk_version=manifest.flavor_version,
        onnx_model_filename=manifest.onnx.file,
        partition_name=partition,
        **_architecture(manifest),
    )
    graph = helper.make_graph([node], "plan", inputs, outputs)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="normexport")


def _architecture(manifest: Manifest) -> dict[str, str]:
    """ "89" of a plan for sm89; nothing of one for several GPUs, of which the provider would warn on all but one."""
    targets = manifest.targets
    known = len(targets) == 1 and targets[0] != CURRENT
    return {"hardware_architecture": targets[0].removeprefix("sm")} if known else {}


def _value(tensor: PlanTensor) -> onnx.ValueInfoProto:
    """An input or output as the plan has it; open sizes have no name."""
    kind = FLOATS[tensor.dtype].onnx if tensor.dtype in FLOATS else _INTEGERS.get(tensor.dtype)
    if kind is None:
        raise EngineError(f"tensor {tensor.name}", f"is of the type {tensor.dtype}", "cast it in the model")
    return helper.make_tensor_value_info(tensor.name, kind, [None if size < 0 else size for size in tensor.shape])
