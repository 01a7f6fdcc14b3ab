"""What scales around operators that stop factors must hold, as plain functions for broken copies of the library too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from normexport.precision.int8.activations import Activations
from normexport.precision.int8.border_noise import noisiest
from normexport.precision.int8.borders import Opened, open_borders, uneven_borders
from normexport.precision.int8.equalise import Equalised, equalise
from normexport.runtime import Float64Runtime
from tests.precision.int8.equalise_claims import check_same, feeds_of, seen_in
from tests.precision.int8.linked_graphs import Graph, random_graph


def _hard_swish(g: Graph, x: str) -> str:
    return g.node("HardSwish", [x], g.shapes[x])


def _hard_swish_in_parts(g: Graph, x: str) -> str:
    """x clip(x + 3, 0, 6) / 6, as older files have it."""
    three, zero, six = (g.const(np.array(each, g.dtype)) for each in (3, 0, 6))
    gate = g.node("Clip", [g.node("Add", [x, three], g.shapes[x]), zero, six], g.shapes[x])
    return g.node("Div", [g.node("Mul", [x, gate], g.shapes[x]), six], g.shapes[x])


def _silu(g: Graph, x: str) -> str:
    return g.node("Mul", [x, g.node("Sigmoid", [x], g.shapes[x])], g.shapes[x])


def _softplus(g: Graph, x: str) -> str:
    return g.node("Softplus", [x], g.shapes[x])


CURVES: dict[str, Callable[[Graph, str], str]] = {
    "HardSwish": _hard_swish,
    "HardSwish in parts": _hard_swish_in_parts,
    "SiLU": _silu,
    "Softplus": _softplus,
}


def curved(curve: Callable[[Graph, str], str], seed: int = 0, dtype: type = np.float64) -> tuple[ir.Model, str, str]:
    """A layer, a curve, a depthwise layer, a ReLU, a layer; what the curve reads and makes."""
    g = Graph(seed, (4, 3, 6, 6), dtype)
    first = g.conv("x", 8, 3)
    second = curve(g, first)
    last = g.node("Relu", [g.conv(second, 8, 3, group=8)], (4, 8, 6, 6))
    return g.model(g.conv(last, 4)), first, second


def with_scales(model: ir.Model, seed: int = 0) -> tuple[Opened, Equalised]:
    """A model whose borders are open, and what equalisation makes of it by what is seen of normal numbers."""
    opened = open_borders(model)
    return opened, equalise(opened.model, seen_in(opened.model, feeds_of(opened.model, seed)))


def check_random(seed: int) -> int:
    """One graph: the same in float64, on other numbers too; how many scales are not one."""
    model = random_graph(seed)
    before = ir.to_proto(model)
    opened, found = with_scales(model, seed)
    assert ir.to_proto(model) == before
    feeds = feeds_of(model, seed)
    for each in (opened.model, found.model):
        check_same(model, each, feeds)
        check_same(model, each, {name: -30 * array for name, array in feeds.items()})
    return sum(bool(np.any(scale_of(found.model, name) != 1)) for name in opened.scales.values())


def scale_of(model: ir.Model, result: str) -> np.ndarray:
    """The constant of the multiplication that makes a tensor."""
    node = next(node for node in model.graph if node.outputs[0].name == result)
    assert node.op_type == "Mul"
    held = node.inputs[1]
    assert held is not None
    assert held.const_value is not None
    return held.const_value.numpy().reshape(-1)


def many_graphs() -> None:
    """Sixteen random graphs, in most of which a scale has become another number than one."""
    assert sum(check_random(seed) > 0 for seed in range(16)) >= 8


def a_scale_that_is_there_stays_the_only_one() -> None:
    """A curve whose result is multiplied by a constant of each channel gets none behind it."""
    g = Graph(0, (4, 3, 6, 6))
    first = g.conv("x", 8, 3)
    curve = _softplus(g, first)
    scaled = g.node("Mul", [curve, g.const(np.linspace(0.1, 4.0, 8).reshape(8, 1, 1))], (4, 8, 6, 6))
    model = g.model(g.conv(scaled, 4))
    opened, found = with_scales(model)
    assert list(opened.scales) == [first]
    check_same(model, found.model, feeds_of(model))
    assert np.any(found.factors[scaled] != 1)


def both_sides_of_a_curve_are_even() -> None:
    """What int8 holds has channels of one size, in front of a curve and behind it; the curve reads what it read."""
    for name, curve in CURVES.items():
        model, first, second = curved(curve)
        opened, found = with_scales(model)
        assert {first, second} <= set(opened.scales), name
        others = set(opened.scales) - {first, second}  # behind a Clip, which holds its channels itself
        assert all(np.all(scale_of(found.model, opened.scales[each]) == 1) for each in others), name
        before, after = (seen_in(each, feeds_of(model)) for each in (model, found.model))
        for each, inside in ((first, first), (second, opened.scales[second])):
            uneven, even = (np.maximum(-low, high) for low, high in (before[each], after[inside]))
            assert uneven.max() / uneven.min() > 3, name
            assert even.max() / even.min() < 1.05, name
            assert even.max() < 1.05 * uneven.max(), name
        exact, got = (Float64Runtime(each, torch=False).run(feeds_of(model), [key]).popitem()[1]
                      for each, key in ((model, first), (found.model, opened.scales[first])))  # fmt: skip
        np.testing.assert_allclose(got, exact, atol=1e-12)


def a_constant_of_two_scales_becomes_two() -> None:
    """Two multiplications by one constant take factors of their own."""
    g = Graph(0, (4, 3, 6, 6))
    held = g.const(np.linspace(0.1, 4.0, 8).reshape(8, 1, 1))
    first = g.node("Mul", [g.conv("x", 8, 3), held], (4, 8, 6, 6))
    second = g.node("Mul", [g.conv(g.node("Softplus", [first], (4, 8, 6, 6)), 8, 3), held], (4, 8, 6, 6))
    model = g.model(g.conv(second, 4))
    found = equalise(model, seen_in(model, feeds_of(model))).model
    check_same(model, found, feeds_of(model))
    assert not np.allclose(scale_of(found, first), scale_of(found, second))


def only_those_named_are_scaled() -> None:
    """The others are as they were."""
    model, _, second = curved(_hard_swish)
    opened = open_borders(model, {second})
    assert list(opened.scales) == [second]
    check_same(model, equalise(opened.model, seen_in(opened.model, feeds_of(model))).model, feeds_of(model))
    assert open_borders(model, ()).model is model


def nothing_is_scaled_where_factors_pass() -> None:
    """Between layers with a ReLU; where an output of the graph or int8 reads what a curve reads; behind an input."""
    g = Graph(0, (4, 3, 6, 6), np.float32)
    first = g.conv("x", 8, 3)
    relu = g.node("Relu", [first], g.shapes[first])
    assert open_borders(g.model(g.conv(relu, 4))).scales == {}
    g = Graph(0, (4, 3, 6, 6), np.float32)
    first = g.conv("x", 8, 3)
    added = g.node("Add", [first, g.const(np.ones((8, 1, 1), np.float32))], g.shapes[first])
    curve = _hard_swish(g, added)
    assert set(open_borders(g.model(g.conv(curve, 4))).scales) == {added, curve}
    for also in ("output", "Add", "MaxPool", "layer"):
        g = Graph(0, (4, 3, 6, 6), np.float32)
        first = g.conv("x", 8, 3)
        curve = _hard_swish(g, first)
        more = {
            "output": lambda g=g, first=first: first,
            "Add": lambda g=g, first=first: g.conv(g.node("Add", [first, g.conv("x", 8)], g.shapes[first]), 2),
            "MaxPool": lambda g=g, first=first: g.conv(
                g.node("MaxPool", [first], g.shapes[first], kernel_shape=[1, 1]), 2
            ),
            "layer": lambda g=g, first=first: g.conv(first, 2),
        }[also]()
        model = g.model(g.conv(curve, 4), more)
        assert set(open_borders(model).scales) == {curve}, also


def little_is_not_worth_a_scale() -> None:
    """A tensor is uneven where its channels lack a bit in the mean."""
    for size, worth in ((1.0, False), (2.1, False), (5.0, True)):
        g = Graph(0, (4, 8, 6, 6))
        sizes = np.where(np.arange(8) % 2, 1.0, size).reshape(8, 1, 1, 1)
        weight = g.const(sizes * np.full((8, 1, 1, 1), 0.5))
        first = g.node("Conv", ["x", weight], (4, 8, 6, 6), group=8)
        model = g.model(g.conv(g.node("Softplus", [first], g.shapes[first]), 4))
        opened = open_borders(model, {first})
        seen = {name: (np.full(8, -1.0), np.full(8, 1.0)) for name in (*opened.scales, *opened.scales.values())}
        seen[first] = -sizes.reshape(-1), sizes.reshape(-1)
        assert uneven_borders(opened, equalise(opened.model, seen).model) == ({first} if worth else set()), size


def the_noisiest_come_first() -> None:
    """Of tensors with so much noise each, the fewest that leave a hundredth."""
    noise = {"a": 0.5, "b": 0.3, "c": 0.19, "d": 0.005, "e": 0.004, "f": 0.0}
    g = Graph(0, (2, 3, 4, 4), np.float32)
    value, names = "x", {}
    for name in noise:
        value = g.node("Softplus", [value], g.shapes[value])
        names[value] = name
    model = g.model(g.conv(value, 2))
    measured = []

    def level(candidate: ir.Model) -> float:
        (pair,) = [node for node in candidate.graph if node.op_type == "QuantizeLinear"]
        (back,) = [node for node in candidate.graph if node.op_type == "DequantizeLinear"]
        assert back.inputs[0] is pair.outputs[0]
        assert pair.inputs[0] is not None
        measured.append(str(pair.inputs[0].name))
        assert [use.node for use in pair.inputs[0].uses()] == [pair]
        each = noise[names[measured[-1]]]
        return float(-10 * np.log10(each)) if each else float("inf")

    ranges = dict.fromkeys(names, (-1.0, 1.0))
    found = noisiest(model, ranges, set(names), level, Activations(unsigned=True))
    assert {names[each] for each in found} == {"a", "b", "c"}
    assert sorted(measured) == sorted(names)
    some = [value for value, name in names.items() if name in "def"]
    assert {names[each] for each in noisiest(model, ranges, some, level, Activations())} == {"d", "e"}
    assert noisiest(model, {}, set(names), level, Activations()) == frozenset()


CLAIMS = (
    a_scale_that_is_there_stays_the_only_one,
    both_sides_of_a_curve_are_even,
    many_graphs,
    a_constant_of_two_scales_becomes_two,
    only_those_named_are_scaled,
    nothing_is_scaled_where_factors_pass,
    little_is_not_worth_a_scale,
    the_noisiest_come_first,
)
