"""The network on a page: its rows, what they read, where norms stand, and that nothing of it runs away."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from normexport.reports.norm_rows import Row
from normexport.reports.page import network
from normexport.reports.page.network import Item, Network, read_network
from tests.reports.page import documents

SCOPES, CLASSES, FOLDED = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy", "normexport.folded"


def made(*nodes: tuple[str, str, list[str], str, dict[str, str]]) -> ir.Model:
    """(operator, module path, inputs, output, metadata) each; reads x, gives the last output."""
    protos = []
    for operator, path, inputs, output, metadata in nodes:
        node = helper.make_node(operator, inputs, [output], f"node_{output}")
        parts = path.split(".")
        scopes = ["", *(".".join(parts[: end + 1]) for end in range(len(parts)))] if path else [""]
        kinds = ["Net", *(f"torch.nn.{part.title()}" for part in parts)] if path else ["Net"]
        for key, value in ((SCOPES, str([*scopes, "op"])), (CLASSES, str([*kinds, "op"])), *metadata.items()):
            entry = node.metadata_props.add()
            entry.key, entry.value = key, value
        protos.append(node)
    port = helper.make_tensor_value_info
    constants = [
        numpy_helper.from_array(np.ones((), np.float32), "s"),
        numpy_helper.from_array(np.zeros((), np.int8), "z"),
    ]
    ports = [port("x", TensorProto.FLOAT, ["N", 4])], [port(nodes[-1][3], TensorProto.FLOAT, ["N", 4])]
    model: onnx.ModelProto = helper.make_model(
        helper.make_graph(protos, "g", *ports, constants), opset_imports=[helper.make_opsetid("", 20)]
    )
    return ir.serde.deserialize_model(model)


def lines(found: Network) -> list[str]:
    """ "  name|type <- what it reads", indented by depth."""
    told, depth = [], {-1: -1}
    for index, item in enumerate(found.items):
        depth[index] = depth[item.parent] + 1
        reads = ", ".join(found.items[source].name for source in item.sources)
        tail = (f" <- {reads}" if reads else "") + (f" {item.fate}" if item.fate else "")
        told.append(f"{'  ' * depth[index]}{item.name}|{item.type}{tail}")
    return told


def test_modules_hold_their_operators_and_a_module_of_one_is_one_row() -> None:
    model = made(
        ("Relu", "stem", ["x"], "a", {}),
        ("Relu", "layer1.first", ["a"], "b", {}),
        ("Neg", "layer1.second", ["b"], "c", {}),
        ("Add", "", ["c", "a"], "d", {}),
    )
    assert lines(read_network(model)) == [
        "x|Nx4 float",
        "stem|Relu <- x",
        "layer1|Layer1",
        "  first|Relu <- stem",
        "  second|Neg <- first",
        "node_d|Add <- second, stem",
        "d|Nx4 float <- node_d",
    ]


def test_a_folded_norm_stands_behind_what_holds_it_and_a_forward_one_before() -> None:
    model = made(
        ("Relu", "block.conv", ["x"], "a", {FOLDED: "before,block.norm"}),
        ("Neg", "block.act", ["a"], "b", {}),
    )
    norms = [
        Row("before", "l1", "4", "folded", "folded forward into Conv", "consumer"),
        Row("block.norm", "linf", "4", "folded", "scaled into Conv", "producer"),
    ]
    assert lines(read_network(model, norms)) == [
        "x|Nx4 float",
        "before|l1 norm <- x folded",
        "block|Block",
        "  conv|Relu <- before",
        "  norm|linf norm <- conv folded",
        "  act|Neg <- norm",
        "b|Nx4 float <- act",
    ]


def test_a_lowered_norm_is_its_module_with_its_reason() -> None:
    model = made(("Mul", "norm", ["x", "s"], "a", {}), ("Add", "norm", ["a", "s"], "b", {}))
    found = read_network(
        model, [Row("norm", "l1", "8", "lowered", "has several readers")], lambda path: [("seen", path)]
    )
    assert lines(found)[1] == "norm|Norm lowered"
    facts = dict(found.items[1].facts)
    assert (facts["channels"], facts["lowered"], facts["seen"]) == ("8", "has several readers", "norm")


def test_what_is_out_of_its_budget_says_so() -> None:
    model = made(("Relu", "first", ["x"], "a", {}), ("Neg", "second", ["a"], "b", {}))
    assert [item.name for item in read_network(model, out=("second",)).items if item.out] == ["second"]


def test_a_file_without_modules_is_marked_at_its_nodes_and_outputs() -> None:
    model = made(("Relu", "", ["x"], "a", {}), ("Neg", "", ["a"], "b", {}))
    found = read_network(model, facts=lambda path: [("seen", path)], out=("node_a",), outputs_out=("b",))
    assert [(item.kind, item.name) for item in found.items if item.out] == [("operator", "node_a"), ("output", "b")]
    assert ("seen", "node_a") in next(item.facts for item in found.items if item.name == "node_a")


def test_an_output_is_not_marked_for_a_module_of_its_name() -> None:
    model = made(("Relu", "b", ["x"], "a", {}), ("Neg", "c", ["a"], "b", {}))
    assert [item.kind for item in read_network(model, out=("b",)).items if item.out] == ["operator"]
    assert [item.kind for item in read_network(model, outputs_out=("b",)).items if item.out] == ["output"]


def test_pairs_that_quantise_are_no_rows_and_what_reads_them_says_int8() -> None:
    model = made(
        ("QuantizeLinear", "", ["x", "s", "z"], "q", {}),
        ("DequantizeLinear", "", ["q", "s", "z"], "dq", {}),
        ("Relu", "act", ["dq"], "a", {}),
        ("Neg", "last", ["a"], "b", {}),
    )
    assert lines(read_network(model)) == ["x|Nx4 float", "act|Relu int8 <- x", "last|Neg <- act", "b|Nx4 float <- last"]


def test_a_norm_that_the_graph_does_not_show_is_a_row_all_the_same() -> None:
    found = read_network(made(("Relu", "a", ["x"], "a", {})), [Row("gone.norm", "l1", "", "live", "")])
    assert "  norm|l1 norm live" in lines(found)


def test_what_an_inner_graph_reads_is_read_by_its_node() -> None:
    inner = helper.make_graph(
        [helper.make_node("Relu", ["outer"], ["r"])],
        "inner",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Neg", ["x"], ["outer"], "first"),
        helper.make_node("If", ["c"], ["y"], "choice", then_branch=inner, else_branch=inner),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [4]), value("c", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, None)],
    )
    model = ir.serde.deserialize_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    (choice,) = [line for line in lines(read_network(model)) if line.startswith("choice")]
    assert choice == "choice|If <- c, first"


@settings(max_examples=60)
@given(st.lists(st.text("ab./'[]é\u202e\x00", max_size=12), min_size=1, max_size=30))
def test_any_names_make_a_tree_in_order(names: list[str]) -> None:
    found = read_network(documents.model(names))
    operators = [item for item in found.items if item.kind == "operator"]
    assert len(operators) == len(names)
    for index, item in enumerate(found.items):
        assert -1 <= item.parent < index, "a row stands behind its parent"
        assert all(0 <= source < len(found.items) and source != index for source in item.sources)


def test_many_rows_side_by_side_stand_in_groups() -> None:
    found = read_network(documents.model([f"n{index}" for index in range(1000)]))
    groups = [item for item in found.items if item.kind == "module"]
    assert [group.name for group in groups[:2]] == ["rows 1 to 100", "rows 101 to 200"]
    beside: dict[int, int] = {}
    for item in found.items:
        beside[item.parent] = beside.get(item.parent, 0) + 1
    assert max(beside.values()) <= 100
    assert sum(item.kind == "operator" for item in found.items) == 1000


def test_of_more_operators_than_can_be_drawn_the_modules_are_shown_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network, "MOST", 5)
    found = read_network(documents.model([f"/layer/n{index}" for index in range(9)]))
    assert found.cut.startswith("9 operators are too many to draw")
    assert [item.kind for item in found.items] == ["input", "module", "output"]


def test_a_path_of_ten_thousand_modules_is_drawn() -> None:
    path = ".".join("m" * 10_000)
    found = read_network(made(("Relu", "a", ["x"], "a", {})), [Row(path, "l1", "", "folded", "")])
    depth, item = 0, found.items[[each.kind for each in found.items].index("norm")]
    while item.parent >= 0:
        depth, item = depth + 1, found.items[item.parent]
    assert depth < 20
    assert isinstance(item, Item)
