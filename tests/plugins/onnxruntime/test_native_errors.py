"""What is wrong with a model, a library or an ONNX Runtime is said aloud, with the name of the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto

from normexport.errors import ExitCode, MissingComponent
from normexport.plugins.kernels import ABI_VERSION
from normexport.runtime import OnnxRuntime
from tests.plugins.conftest import Compile
from tests.plugins.onnxruntime.one_node import int8_model, live_model, session


def feeds(
    shape: tuple[int, ...] = (2, 4, 5, 5), scale: int | tuple[int, ...] = 4, bias: int | tuple[int, ...] = 4
) -> dict[str, np.ndarray]:
    return {"x": np.ones(shape), "scale": np.ones(scale), "bias": np.ones(bias)}


def test_k_beyond_the_elements_names_the_node_and_both_numbers(ort_library: Path) -> None:
    opened = session(live_model("TopKBatchNorm", k=51), ort_library)
    with pytest.raises(Exception, match=r"'the_norm' \(TopKBatchNorm\): k = 51 of only 50 elements") as caught:
        opened.run(None, feeds())
    assert "choose a smaller k" in str(caught.value)


@pytest.mark.parametrize(
    ("op", "attributes", "words"),
    [("TopKInstanceNorm", {"k": 0}, "1 <= k"), ("RangeBatchNorm", {"chunks": 0}, "chunks >= 1")],
)
def test_attribute_that_no_input_can_satisfy_is_refused_when_the_session_opens(
    op: str, attributes: dict[str, Any], words: str, ort_library: Path
) -> None:
    with pytest.raises(Exception, match=rf"'the_norm' \({op}\): .*{words}"):
        session(live_model(op, **attributes), ort_library)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scale": 3}, r"scale has shape \(3\), expected \(4\) as X has shape \(2, 4, 5, 5\)"),
        ({"bias": 1}, r"bias has shape \(1\), expected \(4\)"),
        ({"shape": (4,)}, r"X has shape \(4\), expected \(N, C, ...\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(given: dict[str, Any], words: str, ort_library: Path) -> None:
    model = live_model("L1InstanceNorm", channels="C")
    del model.graph.input[2].type.tensor_type.shape.dim[:]
    model.graph.input[2].type.tensor_type.shape.dim.add().dim_param = "D"
    with pytest.raises(Exception, match=rf"'the_norm' \(L1InstanceNorm\): {words}"):
        session(model, ort_library).run(None, feeds(**given))


def test_scale_that_is_a_matrix_is_refused_even_where_it_has_as_many_elements(ort_library: Path) -> None:
    model = live_model("L1BatchNorm")
    model.graph.input[1].type.tensor_type.shape.dim.add().dim_value = 1
    with pytest.raises(Exception, match=r"scale has shape \(4, 1\), expected \(4\)"):
        session(model, ort_library).run(None, feeds(scale=(4, 1)))


def test_types_that_an_operator_does_not_take_are_refused_by_node_name(ort_library: Path) -> None:
    float_op_on_int8 = int8_model("L1BatchNorm")
    with pytest.raises(Exception, match=r"tensor\(int8\).*the_norm"):
        session(float_op_on_int8, ort_library)
    wide_parameters = int8_model("QL1BatchNorm")
    wide_parameters.graph.input[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(Exception, match=r"tensor\(double\).*the_norm"):
        session(wide_parameters, ort_library)


STAND_IN = """
#include <cstdint>
extern "C" int32_t nx_abi_version() { return %d; }
extern "C" void* RegisterCustomOps(void* options, const void* base) { return nullptr; }
"""
#: A small part of the C API: an ONNX Runtime that knows API 20 and below. Its status is the message itself.
OLD_HOST = """
#include <cstdint>
#include <cstring>
typedef const void* (*GetApi)(uint32_t);
static char said[500];
static void* create_status(int code, const char* words) { std::strncpy(said, words, sizeof said - 1); return said; }
static void* old_api[] = {(void*)create_status};
static const void* get_api(uint32_t version) { return version <= 20 ? old_api : nullptr; }
static const char* version() { return "1.20.1"; }
static struct { GetApi api; const char* (*version)(); } base{get_api, version};
extern "C" const void* host() { return &base; }
"""


def in_place_of_the_library(library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.rename(folder / "libnormexport_onnxruntime.so")
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(folder))


def test_library_of_another_interface_is_refused_with_the_remedy(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place_of_the_library(compiled(STAND_IN % (ABI_VERSION + 1)), tmp_path, monkeypatch)
    with pytest.raises(MissingComponent, match=rf"has version {ABI_VERSION + 1} .*run: normexport plugins build"):
        OnnxRuntime(live_model("L1BatchNorm", bodies=True))


def test_library_that_is_none_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.so").write_text("no library\n")
    in_place_of_the_library(tmp_path / "text.so", tmp_path, monkeypatch)
    with pytest.raises(MissingComponent, match=r"can't be loaded .*run: normexport plugins build") as caught:
        OnnxRuntime(live_model("L1BatchNorm", bodies=True))
    assert caught.value.exit_code == ExitCode.MISSING


def test_library_without_symbols_is_refused_with_the_remedy(
    compiled: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place_of_the_library(compiled("int nothing;"), tmp_path, monkeypatch)
    with pytest.raises(MissingComponent, match=r"lacks nx_abi_version.*run: normexport plugins build"):
        OnnxRuntime(live_model("L1BatchNorm", bodies=True))


def test_broken_library_is_no_matter_without_live_norms_or_where_bodies_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.so").write_text("no library\n")
    in_place_of_the_library(tmp_path / "text.so", tmp_path, monkeypatch)
    live = live_model("L1BatchNorm", bodies=True)
    assert OnnxRuntime(live, native=False).name == "ONNX Runtime"
    del live.graph.node[3], live.functions[:]
    live.graph.node[-1].input[0] = "xc"
    assert OnnxRuntime(live).name == "ONNX Runtime"


def test_onnx_runtime_that_is_too_old_gets_an_error_and_no_silent_success(ort_library: Path, compiled: Compile) -> None:
    import ctypes

    host, library = ctypes.CDLL(str(compiled(OLD_HOST))), ctypes.CDLL(str(ort_library))
    host.host.restype = ctypes.c_void_p
    library.RegisterCustomOps.restype = ctypes.c_char_p
    library.RegisterCustomOps.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    said = library.RegisterCustomOps(None, host.host())
    assert said is not None
    assert b"needs ONNX Runtime 1.21 or later, this is 1.20.1" in said


def test_absent_library_means_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    model = live_model("L1BatchNorm", bodies=True)
    for size in ("N", "C", "H", "W"):
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_param = size
    runtime = OnnxRuntime(model)
    assert runtime.name == "ONNX Runtime"
    assert runtime.run(feeds())["y"].shape == (2, 4, 5, 5)
    with pytest.raises(Exception, match="L1BatchNorm"):  # without a body nothing can run it
        ort.InferenceSession(live_model("L1BatchNorm").SerializeToString())
