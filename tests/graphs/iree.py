"""An ONNX model compiled and run by IREE."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir


def run_in_iree(model: ir.Model, x: np.ndarray[Any, Any], folder: Path) -> np.ndarray[Any, Any]:
    """The only output for the only input; raises where IREE can't import, compile or run the model."""
    import iree.compiler
    import iree.runtime

    file, text = folder / "model.onnx", folder / "model.mlir"
    onnx.save(ir.to_proto(model), file)
    command = [sys.executable, "-m", "iree.compiler.tools.import_onnx", str(file), "-o", str(text)]
    subprocess.run(command, check=True, capture_output=True)
    compiled = iree.compiler.compile_file(
        str(text), input_type="onnx", target_backends=["llvm-cpu"], extra_args=["--iree-llvmcpu-target-cpu=host"]
    )
    context = iree.runtime.SystemContext(config=iree.runtime.Config("local-sync"))
    context.add_vm_module(iree.runtime.VmModule.copy_buffer(context.instance, compiled))
    module = context.modules.module
    # Beside each function stands its asynchronous form.
    (name,) = [each for each in module.vm_module.function_names if not each.startswith("__") and "$" not in each]
    return np.asarray(module[name](x).to_host())
