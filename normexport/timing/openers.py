"""Files opened as those who deploy them open them: default settings of each runtime, nothing that serves a proof.

What comes back makes of arrays a function without arguments: one inference, from arrays in memory to its outputs in
memory, as a caller waits for it (trtexec calls that latency: copies to a GPU and back are in it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from normexport.errors import FoldError, MissingComponent, UsageError, needing_torch
from normexport.text import first_line, one_line
from normexport.timing.case import Opening

if TYPE_CHECKING:
    from normexport.runtime import Array

#: One inference.
Call: TypeAlias = Callable[[], object]
#: Makes one of arrays by input name.
Bind: TypeAlias = "Callable[[Mapping[str, Array]], Call]"

_FATAL = 4  # ONNX Runtime's log level
_REMEDY = "see: normexport run"


def open_file(opening: Opening) -> Bind:
    """Open a file on its runtime.

    Raises:
        FoldError, UsageError: it can't be opened there.
        MissingComponent: the runtime, or its device, is not there.
    """
    family = opening.runtime.partition("-")[0]
    return {"onnxruntime": _onnxruntime, "openvino": _openvino, "torch": _torch, "tensorrt": _tensorrt}[family](opening)


def import_runtime(opening: Opening) -> None:
    """Import what opens the file, so that opening it is measured without.

    Raises:
        MissingComponent: it is not installed.
    """
    family = opening.runtime.partition("-")[0]
    if family == "onnxruntime":
        try:
            import_module("onnxruntime")
        except ImportError as error:
            raise MissingComponent.of("onnxruntime", "cpu") from error
    elif family == "openvino":
        from normexport.runtime.openvino_runtime import import_openvino

        import_openvino()
    elif family == "torch":
        with needing_torch():
            import_module("normexport.runtime.torch_runtime")


def _onnxruntime(opening: Opening) -> Bind:
    import onnxruntime

    onnxruntime.set_default_logger_severity(_FATAL)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = opening.threads
    if opening.library is not None:
        from normexport.runtime import ort_library

        ort_library.register(options, opening.library)
    provider = "CUDAExecutionProvider" if opening.runtime.endswith("cuda") else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise MissingComponent(opening.runtime, f"this ONNX Runtime has no {provider}", "pip install onnxruntime-gpu")
    try:
        session = onnxruntime.InferenceSession(str(opening.file), options, providers=[provider])
    except Exception as error:  # the bindings raise their own kinds
        raise FoldError("ONNX Runtime", f"can't load it ({first_line(error, 300)})", _REMEDY) from error
    if provider not in session.get_providers():  # it falls back to the CPU by itself, and says so in a log
        raise MissingComponent("an NVIDIA GPU", "ONNX Runtime finds none", "run it on a machine with one")
    return lambda feeds: lambda: session.run(None, feeds)


def _openvino(opening: Opening) -> Bind:
    from normexport.runtime.openvino_runtime import import_openvino

    openvino = import_openvino()
    # In the precision that the file says, as it is proven: by itself it takes bfloat16 where the processor has it.
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if opening.threads:
        settings["INFERENCE_NUM_THREADS"] = opening.threads
    try:
        compiled = openvino.Core().compile_model(str(opening.file), "CPU", settings)
    except Exception as error:  # as above
        raise FoldError("OpenVINO", f"can't load it ({one_line(error)[-300:]})", _REMEDY) from error
    request = compiled.create_infer_request()

    def bind(feeds: Mapping[str, Array]) -> Call:
        for index, name in enumerate(opening.inputs):  # by position: OpenVINO may call an input by another name
            array = np.require(feeds[name], requirements=["C", "A"])
            request.set_input_tensor(index, openvino.Tensor(array))
        return lambda: request.infer()

    return bind


def _torch(opening: Opening) -> Bind:
    import torch

    from normexport.checkpoint import load
    from normexport.onnx_export.calls import call_of
    from normexport.runtime.torch_runtime import flat_module

    on_gpu = opening.runtime.endswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        raise MissingComponent("an NVIDIA GPU", "PyTorch sees none", "run it on a machine with one")
    if opening.threads:
        torch.set_num_threads(opening.threads)
    side = load(str(opening.file), **opening.load)
    program, module = side.program, side.model
    called = program if program is not None else module
    if called is None:
        raise UsageError(str(side.path), "holds weights but no model", "name its code: --model package.module:factory")
    call = call_of(called, opening.specs, str(side.path))
    runs: Any = called.eval() if isinstance(called, torch.nn.Module) else flat_module(called)
    device = torch.device("cuda" if on_gpu else "cpu")
    runs = runs.to(device)
    if "compiled" in opening.runtime:
        runs = torch.compile(runs)

    def bind(feeds: Mapping[str, Array]) -> Call:
        types = [getattr(torch, spec.dtype) for spec in opening.specs]
        given = [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])) for spec in opening.specs]
        tensors = [tensor.to(dtype) for tensor, dtype in zip(given, types, strict=True)]

        def infer() -> object:
            with torch.inference_mode():
                moved = [tensor.to(device) for tensor in tensors] if on_gpu else tensors
                positional, named = call.arguments(moved)
                returned = runs(*positional, **named)
                if on_gpu:
                    torch.cuda.synchronize()
                return returned

        return infer

    return bind


def _tensorrt(opening: Opening) -> Bind:
    from normexport.runtime.tensorrt_runtime import Plan

    assert isinstance(opening.file, Plan)
    runtime = opening.file.runtime(graphs=True)
    return lambda feeds: lambda: runtime.run(feeds)
