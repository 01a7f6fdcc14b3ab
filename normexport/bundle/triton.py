"""A model repository of Triton: `models/NAME/config.pbtxt`, the model, warm-up samples, labels.

The configuration is a message of Triton's own protobuf, so that no name in it can become more than a name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from normexport.bundle.content import Content, ServedPort
from normexport.capsule.served import MODEL_HASH, MODEL_VERSIONS
from normexport.dtypes import BFLOAT16
from normexport.errors import MissingComponent, UsageError
from normexport.runtime import Array
from normexport.runtime.served import WIRE_TYPES
from normexport.text import one_line


def require_triton_kit() -> Any:
    """Triton's protobuf of configurations.

    Raises:
        MissingComponent: tritonclient is not installed.
    """
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise MissingComponent.of("tritonclient", "serve") from error
    return model_config_pb2


def repository(content: Content) -> dict[str, bytes | Path]:
    """The files of the model's folder in the repository, by their paths in it."""
    from google.protobuf.text_format import MessageToString

    files: dict[str, bytes | Path] = {}
    config = _config(content, files)
    files["config.pbtxt"] = MessageToString(config, as_utf8=True).encode()
    for name, path in content.files.items():
        if not name.endswith(".so"):
            files[f"1/{name}"] = path
    return files


def _config(content: Content, files: dict[str, bytes | Path]) -> Any:
    kit = require_triton_kit()
    batch = content.batching.most
    config = kit.ModelConfig(name=content.name, max_batch_size=batch)
    config.backend = "onnxruntime" if content.manifest is None else "tensorrt"
    config.default_model_filename = "model.onnx" if content.manifest is None else "model.plan"
    for port in content.inputs:
        _describe(config.input.add(), kit, port, batched=bool(batch))
    for number, port in enumerate(content.outputs):
        described = config.output.add()
        _describe(described, kit, port, batched=bool(batch))
        if port.name in content.labels:
            described.label_filename = f"labels_{number}.txt"
            lines = (one_line(label) for label in content.labels[port.name])
            files[described.label_filename] = "".join(f"{line}\n" for line in lines).encode()
    if batch:
        config.dynamic_batching.SetInParent()
        if content.batching.usual > 1:
            config.dynamic_batching.preferred_batch_size.append(content.batching.usual)
    _add_profiles(config, kit, content)
    _add_warm_up(config, kit, content, files)
    for key, value in parameters(content).items():
        config.parameters[key].string_value = value
    return config


def parameters(content: Content) -> dict[str, str]:
    """What a server tells of the model to whoever asks: the file it is, and what it was made by and for."""
    runtime, version = content.runtime
    return {
        MODEL_HASH: str(content.record["onnx_sha256"]),
        MODEL_VERSIONS["normexport"]: str(content.record["versions"]["normexport"]),
        MODEL_VERSIONS[runtime]: version,
    }


def _describe(described: Any, kit: Any, port: ServedPort, *, batched: bool) -> None:
    """Name, type and sizes without the batch; what has no axis beside it is one element to Triton."""
    described.name = port.name
    described.data_type = _type(kit, port)
    sizes = [-1 if size is None else size for size in (port.shape[1:] if batched else port.shape)]
    described.dims.extend(sizes or [1])
    if not sizes:
        described.reshape.SetInParent()


def _type(kit: Any, port: ServedPort) -> int:
    if port.dtype not in WIRE_TYPES:
        raise UsageError(port.name, f"is of the type {port.dtype}, which no server sends", "take --bundle folder")
    return int(kit.DataType.Value(f"TYPE_{WIRE_TYPES[port.dtype]}"))


def _add_profiles(config: Any, kit: Any, content: Content) -> None:
    """A plan of several profiles is run with all of them."""
    if content.manifest is None:
        return
    group = config.instance_group.add()
    group.kind, group.count = kit.ModelInstanceGroup.KIND_GPU, 1
    profiles = max(len(tensor.profiles) for tensor in content.manifest.inputs)
    group.profile.extend(str(number) for number in range(profiles) if profiles > 1)


def _add_warm_up(config: Any, kit: Any, content: Content, files: dict[str, bytes | Path]) -> None:
    """A sample of the proof as it is; where requests share a batch alone, and as often as the largest one holds."""
    batch = content.batching.most
    sizes = dict.fromkeys((1, batch)) if batch else {0: None}
    for size in sizes:
        warm = config.model_warmup.add()
        warm.name, warm.batch_size = f"batch {size}" if size else "sample", size or 1
        for number, port in enumerate(content.inputs):
            array = content.sample[port.name]
            sample = array[:1].reshape(array.shape[1:]) if batch else array
            given = warm.inputs[port.name]
            given.data_type = _type(kit, port)
            given.dims.extend(sample.shape or (1,))
            given.input_data_file = f"input_{number}.bin"
            files[f"warmup/input_{number}.bin"] = _raw(sample, port.dtype)


def _raw(array: Array, dtype: str) -> bytes:
    """Little-endian numbers of the type that the model reads; of bfloat16 the upper half of float32."""
    if dtype == BFLOAT16.name:
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()
    return np.ascontiguousarray(array).astype(np.dtype(dtype).newbyteorder("<")).tobytes()
