"""OpenVINO as a runtime: what it computes, in which precision, what it refuses, and that nothing loads it unasked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.errors import ExitCode, FoldError, MissingComponent, UsageError
from normexport.norms import Scope
from normexport.runtime import Float64Runtime, OnnxRuntime, OpenVinoRuntime
from normexport.runtime.openvino_runtime import require_openvino, save_openvino
from tests.foreign import needs_openvino
from tests.norms.test_group_norms import model_of

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {text}')


@needs_openvino
@pytest.mark.parametrize(
    ("text", "x"),
    [
        ("g (float[n,4] x) => (bool[n,4] y) { z = Constant<value = float {0.0}>() y = Greater(x, z) }", X),
        ("g (float[n,4] x) => (int64[n] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }", X),
        ("g (float[n,4] x) => (float y) { y = ReduceMax<keepdims = 0>(x) }", X),
        ("g (float x) => (float y) { y = Neg(x) }", np.float32(2)),
        ("g (float[n,4] x, float[2] unread) => (float[n,4] y) { y = Relu(x) }", X),
        ("g (float[n,4] x) => (float[n,4] y, float[n,4] x) { y = Relu(x) }", X),
        ("g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }", X[:0]),
        ("g (float16[n,4] x) => (float16[n,4] y) { y = Add(x, x) }", X.astype(np.float16)),
        ("g (uint8[n,4] x) => (int32[n,4] y) { y = Cast<to = 6>(x) }", np.arange(12, dtype=np.uint8).reshape(3, 4)),
    ],
    ids=["bool", "integer", "scalar", "scalar_in", "unread", "input_out", "empty", "float16", "uint8"],
)
def test_outputs_of_every_kind_are_those_of_onnx_runtime(text: str, x: Any) -> None:
    feeds = {"x": x, "unread": np.zeros(2, np.float32)} if "unread" in text else {"x": x}
    wanted, found = (runtime(parsed(text)).run(feeds) for runtime in (OnnxRuntime, OpenVinoRuntime))
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found[name], value)


@needs_openvino
@pytest.mark.parametrize("stem", ["a/b:0", "with space", "名", "model.onnx;x", "0"])
def test_odd_names_name_what_they_name(stem: str) -> None:
    model = ir.from_proto(parsed("g (float[n,4] x) => (float[n,4] y) { h = Relu(x)  y = Neg(h) }"))
    for value in (*model.graph.inputs, *(each for node in model.graph for each in node.outputs)):
        value.name = f"{stem}{value.name}"
    found = OpenVinoRuntime(model).run({f"{stem}x": X}, [f"{stem}h"])
    np.testing.assert_array_equal(found[f"{stem}h"], np.maximum(X, 0))
    np.testing.assert_array_equal(found[f"{stem}y"], -np.maximum(X, 0))


@needs_openvino
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("name", norms.KINDS)
def test_live_norms_run_on_their_bodies(name: str, scope: Scope) -> None:
    kind = norms.KINDS[name]
    own = {"k": 3, "chunks": 4, "num_groups": 3}
    given = {key: own[key] for key in (*kind.parameters, *scope.parameters)}
    model = ir.from_proto(model_of(kind.op(scope), ["N", 6, 8, 5], onnx.TensorProto.FLOAT, **given))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 6, 8, 5)).astype(np.float32)
    feeds = {"X": x, "scale": rng.standard_normal(6).astype(np.float32), "bias": np.ones(6, np.float32)}
    (wanted,) = Float64Runtime(model).run({key: value.astype(np.float64) for key, value in feeds.items()}).values()
    (found,) = OpenVinoRuntime(model).run(feeds).values()
    assert np.linalg.norm(found - wanted) <= 1e-6 * np.linalg.norm(wanted)


@needs_openvino
def test_it_computes_in_float32_where_the_processor_would_rather_not() -> None:
    """A bfloat16 product of such matrices is off by a part in 500."""
    weight = np.random.default_rng(2).standard_normal((512, 512)).astype(np.float32)
    model = ir.from_proto(parsed("g (float[n,512] x, float[512,512] w) => (float[n,512] y) { y = MatMul(x, w) }"))
    x = np.random.default_rng(3).standard_normal((64, 512)).astype(np.float32)
    (found,) = OpenVinoRuntime(model, threads=1).run({"x": x, "w": weight}).values()
    exact = x.astype(np.float64) @ weight.astype(np.float64)
    assert np.linalg.norm(found - exact) <= 1e-6 * np.linalg.norm(exact)


@needs_openvino
@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("g (float[n,4] x) => (float[n,4] y) { y = NoSuch(x) }", FoldError, "No conversion rule found .*NoSuch"),
        ("g (string[n] x) => (string[n] y) { y = Identity(x) }", UsageError, "input x: is of type STRING"),
        ("g (bfloat16[n] x) => (bfloat16[n] y) { y = Identity(x) }", UsageError, "input x: is of type BFLOAT16"),
    ],
    ids=["operator", "text", "bfloat16"],
)
def test_what_it_does_not_take_is_one_line(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        OpenVinoRuntime(parsed(text))
    assert "\n" not in str(caught.value)


@needs_openvino
def test_a_failure_inside_is_one_line_without_the_places_in_its_source() -> None:
    reshape = "g (float[n,4] x) => (float[a,b] y) { s = Constant<value = int64[2] {5, 5}>()  y = Reshape(x, s) }"
    with pytest.raises(UsageError, match="OpenVINO: can't run on these inputs") as caught:
        OpenVinoRuntime(parsed(reshape)).run({"x": X})
    assert "\n" not in str(caught.value)
    assert ".cpp" not in str(caught.value)


@needs_openvino
def test_its_own_files_compute_the_same(tmp_path: Path) -> None:
    model = ir.from_proto(parsed("g (float[n,4] x) => (float[n,4] y, int64[n] best) "
                                 "{ y = Softmax(x)  best = ArgMax<axis = 1, keepdims = 0>(y) }"))  # fmt: skip
    save_openvino(model, tmp_path / "model.xml", {"x": X})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    # By OpenVINO itself, without the class that wrote them; in a process of its own, in which it may report its use.
    code = (
        "import sys; sys.modules['openvino_telemetry'] = None; import openvino, numpy as np;"
        f"model = openvino.Core().compile_model({str(tmp_path / 'model.xml')!r}, 'CPU', "
        "{'INFERENCE_PRECISION_HINT': 'f32'});"
        f"found = model(np.array({X.tolist()!r}, np.float32)); print(found['best'].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(X.argmax(1).tolist())


@needs_openvino
def test_files_that_compute_something_else_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ir.from_proto(parsed("g (float[n,4] x) => (float[n,4] y) { y = Softmax(x) }"))
    run = OpenVinoRuntime.run
    moved: list[Callable[..., Any]] = [run, lambda *given: {"y": run(*given)["y"] * np.float32(1.0001)}]
    monkeypatch.setattr(OpenVinoRuntime, "run", lambda *given: moved.pop(0)(*given))
    with pytest.raises(FoldError, match="OpenVINO's own files give another y than the ONNX file"):
        save_openvino(model, tmp_path / "model.xml", {"x": X})


@needs_openvino
def test_importing_it_reports_its_use_to_nobody() -> None:
    code = (
        "import sys; from normexport.runtime import openvino_runtime; openvino_runtime.import_openvino();"
        "assert 'openvino' in sys.modules and 'openvino_telemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_nothing_imports_it_that_was_not_asked_for_it() -> None:
    code = (
        "import sys, normexport.verbs.convert, normexport.verbs.evaluate, normexport.runtime;"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'openvino']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_where_it_is_not_installed_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingComponent, match=r"pip install 'normexport\[openvino\]'") as caught:
        OpenVinoRuntime(parsed("g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }"))
    assert caught.value.exit_code == ExitCode.MISSING
    with pytest.raises(MissingComponent, match=r"pip install 'normexport\[openvino\]'"):
        require_openvino()
