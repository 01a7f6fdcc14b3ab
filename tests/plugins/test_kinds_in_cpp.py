"""What the C++ sources say of kinds, operators and defaults is what the registry in Python says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from normexport import norms
from normexport.engine.prepare import PLUGIN_VERSION
from normexport.norms import KINDS, PARAMETERS, Scope
from normexport.plugins.kernels import TYPES, number_of
from tests.narrow import present

PLUGINS = Path(__file__).parents[2] / "plugins"
NATIVE = {name: kind for name, kind in KINDS.items() if kind.native is not None}


def code(*parts: str) -> str:
    """A source file without its comments, every run of white space as one blank."""
    text = PLUGINS.joinpath(*parts).read_text()
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", text)


def enumerators(name: str) -> dict[str, int]:
    """An enumeration of the C interface."""
    body = re.search(rf"typedef enum {name} \{{(.*?)\}} {name};", code("kernels", "include", "normexport", "kernels.h"))
    return {name: int(value) for name, value in re.findall(r"(NX_\w+) = (\d+)", present(body)[1])}


def enumerator(kind: str) -> str:
    return f"NX_{kind.upper()}"


def braced(text: str, before: str) -> str:
    """What stands between the braces after some text."""
    start = text.index("{", text.index(before)) + 1
    depth, end = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return text[start : end - 1]


def test_kinds_of_the_c_interface_are_the_kinds_with_a_kernel() -> None:
    assert enumerators("NxKind") == {enumerator(name): kind.native for name, kind in NATIVE.items()}
    assert sorted(present(kind.native) for kind in NATIVE.values()) == list(range(len(NATIVE)))
    assert {name: number_of(name) for name in NATIVE} == {name: kind.native for name, kind in NATIVE.items()}


def test_the_check_of_arguments_knows_the_last_kind_and_type() -> None:
    known = dict(re.findall(r"is_enumerator\(norm->(\w+), (\w+)\)", code("kernels", "common", "norm.cpp")))
    numbers = {"kind": enumerators("NxKind"), "type": enumerators("NxType"), "layout": enumerators("NxLayout")}
    for field, values in numbers.items():
        assert values[known[field]] == max(values.values()) == len(values) - 1
    assert known["instance"] == "1"


def test_element_types_are_numbered_alike() -> None:
    assert enumerators("NxType") == {f"NX_{name.upper()}": number for name, number in TYPES.items()}


def test_onnx_runtime_gets_every_operator_by_its_name() -> None:
    text = code("onnxruntime", "norm_op.cpp")
    titles = dict(re.findall(r'case (NX_\w+): return "(\w+)";', braced(text, "const char* title(NxKind kind)")))
    rest = present(re.search(r'default: return "(\w+)";', braced(text, "const char* title(NxKind kind)")))[1]
    assert {titles.get(enumerator(name), rest) for name in NATIVE} == {kind.title for kind in NATIVE.values()}
    for name, kind in NATIVE.items():
        assert titles.get(enumerator(name), rest) == kind.title
    offered = present(re.search(r"for \(NxKind kind : \{(.*?)\}\)", text))[1].replace(" ", "").split(",")
    assert sorted(offered) == sorted(enumerators("NxKind"))
    scopes = dict(re.findall(r'case Scope::k(\w+): return "(\w+)";', braced(text, "const char* title(Scope scope)")))
    scopes["Group"] = present(re.search(r'default: return "(\w+)";', braced(text, "const char* title(Scope scope)")))[1]
    assert scopes == {scope.title: f"{scope.title}Norm" for scope in Scope}
    visited = present(re.search(r"for \(Scope scope : \{(.*?)\}\)", text))[1]
    assert re.findall(r"Scope::k(\w+)", visited) == [scope.title for scope in Scope]


def test_tensorrt_has_a_plugin_for_every_operator() -> None:
    rows = re.findall(r'\{ ?"(\w+)", (\w+), (true|false), (true|false) ?\}', code("tensorrt", "operators.cpp"))
    expected = set()
    for name, kind in NATIVE.items():
        for scope in (Scope.BATCH, Scope.INSTANCE):
            instance = str(scope.is_instance).lower()
            expected.add((kind.op(scope), enumerator(name), instance, "false"))
            expected.add((kind.quantized_op(scope), enumerator(name), instance, "true"))
    assert set(rows) == expected
    assert len(rows) == len(expected)
    assert int(present(re.search(r"kOperators = (\d+);", code("tensorrt", "operators.h")))[1]) == len(rows)


def test_defaults_of_attributes_are_those_of_the_operators() -> None:
    shell = dict(re.findall(r"\b(kEpsilon|kK|kChunks) = ([\d.e-]+)f?\b", code("onnxruntime", "norm_kernel.cpp")))
    struct = braced(code("tensorrt", "attributes.h"), "struct Attributes")
    plugin = dict(re.findall(r"\b(\w+) = ([\d.e-]+)f?;", struct))
    for name, value in PARAMETERS.items():
        assert int(shell[f"k{name.capitalize()}"]) == int(plugin[name]) == value
    assert np.float32(shell["kEpsilon"]) == np.float32(plugin["epsilon"]) == np.float32(norms.EPSILON_DEFAULT)
    assert float(plugin["correction"]) == 0.0
    for kind in NATIVE.values():
        assert kind.parameters.items() <= PARAMETERS.items()


@pytest.mark.parametrize("op", norms.live_ops())
def test_bodies_have_the_same_defaults(op: str) -> None:
    declared = {each.name: each for each in norms.functions()[op].attribute_proto}
    assert declared["epsilon"].f == np.float32(norms.EPSILON_DEFAULT)
    assert {name: declared[name].i for name in declared.keys() & PARAMETERS.keys()} == norms.live_ops()[op].parameters


def test_plugins_read_the_attributes_that_operators_have() -> None:
    fields = re.findall(r'\{"(\w+)", nullptr,', code("tensorrt", "attributes.cpp"))
    assert fields == ["epsilon", "correction", *PARAMETERS]
    for file in (("onnxruntime", "norm_kernel.cpp"), ("tensorrt", "attributes.cpp")):
        assert all(f'"{name}"' in code(*file) for name in fields)


def test_domain_and_version_are_the_same() -> None:
    assert f'kDomain = "{norms.DOMAIN}";' in code("onnxruntime", "register.cpp")
    assert f'kNamespace = "{norms.DOMAIN}";' in code("tensorrt", "operators.h")
    assert f'kVersion = "{norms.VERSION}";' in code("tensorrt", "operators.h")
    assert str(norms.VERSION) == PLUGIN_VERSION
    shell = code("onnxruntime", "norm_op.cpp")
    for which in ("Start", "End"):
        assert re.search(rf"Get{which}Version = \[\]\(const OrtCustomOp\*\) \{{ return {norms.VERSION}; \}};", shell)
