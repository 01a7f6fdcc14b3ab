"""Load a library and try it, in a process of its own: what a broken library does must not happen to the caller.

    python -m normexport.plugins.probe LIBRARY COMPONENT [quick]

Prints one JSON object a line, {"name", "state", "words"}, each as soon as it is known: after a crash the last line
tells how far it came. `quick` leaves out the smoke test.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from normexport.plugins.kernels import ABI_VERSION, Kernels, NxNorm, kind_numbers
from normexport.text import first_line

GOOD, WARNING, FAILED = "good", "warning", "failed"

#: Error of the smoke test's float32 results (75 elements, statistics and values near 1) against float64: 32 unit
#: roundoffs cover 8 roundings of each of statistic and result; a wrong formula is off by thousands.
TOLERANCE = 32 * 2.0**-24


def say(name: str, state: str, words: str) -> None:
    """One finding."""
    sys.stdout.write(json.dumps({"name": name, "state": state, "words": words}) + "\n")
    sys.stdout.flush()


def probe(path: str, component: str, quick: bool) -> None:
    """All checks in order, until one fails that the rest rest on."""
    denormals_before = _denormals_survive()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        say("load", FAILED, f"dlopen refuses it: {error}")
        return
    say("load", GOOD, "loads")
    if not _same_interface(library, component):
        return
    if hasattr(library, "nx_cpu_target"):
        library.nx_cpu_target.restype = ctypes.c_char_p
        say("cpu", GOOD, f"{library.nx_cpu_target().decode()} kernels on this CPU")
    if not quick:
        _smoke(library, path, component)
    if denormals_before and not _denormals_survive():
        say("denormals", FAILED, "it sets flush-to-zero for the whole process: built with -ffast-math")
    else:
        say("denormals", GOOD, "denormal numbers survive")


def _same_interface(library: Any, component: str) -> bool:
    if not hasattr(library, "nx_abi_version"):
        state = WARNING if component == "tensorrt" else FAILED
        say("interface", state, "does not tell its version (it lacks nx_abi_version)")
        return state == WARNING
    version = int(library.nx_abi_version())
    if version != ABI_VERSION:
        say("interface", FAILED, f"version {version} of the kernels' interface, this normexport has {ABI_VERSION}")
        return False
    say("interface", GOOD, f"version {version} of the kernels' interface")
    return True


def _denormals_survive() -> bool:
    """float32 1e-30 * 1e-10 is a denormal number: zero where flush-to-zero is on."""
    tiny, tinier = (ctypes.c_float * 1)(1e-30), (ctypes.c_float * 1)(1e-10)
    product = ctypes.c_float(tiny[0] * tinier[0]).value
    # Python multiplies in double: the smallest of those must halve as well.
    return product != 0.0 and sys.float_info.min / 2 != 0.0


def _smoke(library: Any, path: str, component: str) -> None:
    if component == "cuda":
        say("smoke test", WARNING, "left out: it computes on device memory")
        return
    trial: Callable[[], str] = {
        "kernels": lambda: _try_kernels(path),
        "onnxruntime": lambda: _try_onnxruntime(path),
        "tensorrt": lambda: _try_creators(library),
    }[component]
    try:
        say("smoke test", GOOD, trial())
    except ModuleNotFoundError as error:
        say("smoke test", WARNING, f"left out: {error.name} is not installed")
    except Exception as error:  # whatever it is, it is the finding
        say("smoke test", FAILED, first_line(error))


def _case() -> tuple[Any, Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 5, 5)).astype(np.float32)
    return x, rng.uniform(0.5, 1, 4).astype(np.float32), rng.standard_normal(4).astype(np.float32)


def _worst(name: str, y: Any, x: Any, scale: Any, bias: Any) -> float:
    """Largest error of `y` against the float64 reference.

    Raises:
        ValueError: it is not small.
    """
    import numpy as np

    from normexport import norms

    kind = norms.kind(name)
    error = float(np.max(np.abs(y - norms.reference(kind, x, scale, bias))))
    if not error <= TOLERANCE * float(np.max(np.abs(y))):  # not <=: NaN fails
        raise ValueError(f"{kind.op(norms.Scope.BATCH)} is {error:.3g} off the float64 reference")
    return error


def _try_kernels(path: str) -> str:
    import numpy as np

    from normexport import norms

    x, scale, bias = _case()
    worst, kernels = 0.0, Kernels(Path(path))
    numbers = kind_numbers()
    for name, number in numbers.items():
        norm = NxNorm(kind=number, batch=3, channels=4, space=25, **norms.PARAMETERS, epsilon=norms.EPSILON_DEFAULT)
        y = np.empty_like(x)
        kernels.run(norm, x.ctypes.data, scale.ctypes.data, bias.ctypes.data, y.ctypes.data, 2)
        worst = max(worst, _worst(name, y, x, scale, bias))
    return f"{len(numbers)} norms within {worst:.1e} of the float64 reference"


def _try_onnxruntime(path: str) -> str:
    import onnxruntime as ort
    from onnx import TensorProto, helper

    from normexport import norms

    x, scale, bias = _case()
    worst = 0.0
    for name in kind_numbers():
        kind = norms.kind(name)
        node = helper.make_node(kind.op(norms.Scope.BATCH), ["x", "scale", "bias"], ["y"], domain=norms.DOMAIN)
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
        inputs += [helper.make_tensor_value_info(each, TensorProto.FLOAT, (4,)) for each in ("scale", "bias")]
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)
        opsets = [helper.make_opsetid("", norms.OPSET), helper.make_opsetid(norms.DOMAIN, norms.VERSION)]
        graph = helper.make_graph([node], "smoke", inputs, [output])
        model = helper.make_model(graph, opset_imports=opsets, ir_version=norms.IR_VERSION)
        options = ort.SessionOptions()
        options.register_custom_ops_library(path)
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        y = session.run(None, {"x": x, "scale": scale, "bias": bias})[0]
        worst = max(worst, _worst(name, y, x, scale, bias))
    return f"{len(kind_numbers())} norms in ONNX Runtime {ort.__version__} within {worst:.1e} of the float64 reference"


def _try_creators(library: Any) -> str:
    count = ctypes.c_int32(0)
    library.getCreators.restype = ctypes.c_void_p
    library.getCreators(ctypes.byref(count))
    if count.value < 1:
        raise ValueError("getCreators offers no plugin")
    return f"offers {count.value} plugins"


if __name__ == "__main__":
    probe(sys.argv[1], sys.argv[2], quick="quick" in sys.argv[3:])
