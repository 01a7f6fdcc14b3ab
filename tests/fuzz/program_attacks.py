"""Nodes put into an exported program's graph: of side effects, of huge results, or of any operator that PyTorch has."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch

from tests.fuzz import hostile
from tests.fuzz.dice import Dice

#: An argument as the schema writes it: {"as_int": 3}.
Value = dict[str, Any]


def insert(module: dict[str, Any], dice: Dice) -> str:
    """Put one node into the program's graph, and mostly have it take part in the result; what it is, in words."""
    graph = module["graph"]
    nodes, values = graph["nodes"], graph["tensor_values"]
    at = dice.randrange(len(nodes) + 1)
    before = [each["as_tensor"]["name"] for each in graph["inputs"] if "as_tensor" in each]
    before += [out["as_tensor"]["name"] for node in nodes[:at] for out in node["outputs"] if "as_tensor" in out]
    some: Value = {"as_tensor": {"name": dice.one_of(before) if before else "x"}}
    if dice.chance(45):
        target, arguments = dice.one_of(_attacks(some, dice))
        outputs = 1
    else:
        target, arguments, outputs = _any_operator(before or ["x"], dice)
    like = values[dice.one_of(sorted(values))]
    made = [{"as_tensor": {"name": f"made{index}"}} for index in range(outputs)]
    values |= {each["as_tensor"]["name"]: copy.deepcopy(like) for each in made}
    nodes.insert(at, _node(target, arguments, made, nodes[min(at, len(nodes) - 1)] if nodes else {}))
    _use(module, at, made, dice)
    return f"node {target}"


def _node(target: str, arguments: dict[str, Value], made: list[Value], like: dict[str, Any]) -> dict[str, Any]:
    return {
        "target": f"torch.ops.{target}",
        "inputs": [{"name": name, "arg": value, "kind": 1} for name, value in arguments.items()],
        "outputs": made,
        "metadata": dict(like.get("metadata") or {}),
        "is_hop_single_tensor_return": None,
        "name": "made0",
    }


def _use(module: dict[str, Any], at: int, made: list[Value], dice: Dice) -> None:
    """Let a later node, or the program's output, read the new value; at times nothing does."""
    if not made:
        return
    reading = [
        each for node in module["graph"]["nodes"][at + 1 :] for each in node["inputs"] if "as_tensor" in each["arg"]
    ]
    if reading and dice.chance(40):
        dice.one_of(reading)["arg"] = dice.one_of(made)
    elif dice.chance(70):
        module["graph"]["outputs"][0] = module["signature"]["output_specs"][0]["user_output"]["arg"] = dice.one_of(made)


def _attacks(some: Value, dice: Dice) -> tuple[tuple[str, dict[str, Value]], ...]:
    """Operators, each with its arguments."""
    size = dice.one_of((10, 10**8, 10**10, 10**12, 2**62))
    wide: Value = {"as_ints": [size, 1, 1, 1]}
    words: Value = {"as_string": hostile.text(dice)}
    norm = dict.fromkeys(("x", "mean", "inv_scale", "scale", "bias"), some)
    return (
        ("aten.from_file.default", {"filename": {"as_string": hostile.MARKER}, "shared": {"as_bool": True},
        "size": {"as_int": 16}}),
        ("aten.full.default", {"size": {"as_ints": [size]}, "fill_value": {"as_float": 1.0}}),
        ("aten.zeros.default", {"size": {"as_ints": [size, size]}}),
        ("aten.expand.default", {"self": some, "size": wide}), ("aten.repeat.default", {"self": some, "repeats": wide}),
        ("aten.arange.default", {"end": {"as_int": size}}), ("aten.eye.default", {"n": {"as_int": size}}),
        ("aten.fill_.Scalar", {"self": some, "value": {"as_float": 7.0}}),
        ("aten.as_strided.default", {"self": some, "size": {"as_ints": [size]}, "stride": {"as_ints": [0]}}),
        ("aten.as_strided.default", {"self": some, "size": {"as_ints": [100]}, "stride": {"as_ints": [10**6]}}),
        ("aten.constant_pad_nd.default", {"self": some, "pad": {"as_ints": [0, size]}}),
        ("aten.repeat_interleave.self_int", {"self": some, "repeats": {"as_int": size}}),
        ("aten.upsample_nearest2d.default", {"self": some, "output_size": {"as_ints": [size, 2]}}),
        ("aten.set_.source_Tensor", {"self": some, "source": some}),
        ("aten.resize_.default", {"self": some, "size": {"as_ints": [size]}}),
        ("aten.randn.default", {"size": {"as_ints": [4]}}),
        ("aten.dropout.default", {"input": some, "p": {"as_float": 0.5}, "train": {"as_bool": True}}),
        ("aten.div.Tensor_mode", {"self": some, "other": some, "rounding_mode": words}),
        ("aten.einsum.default", {"equation": words, "tensors": {"as_tensors": [some["as_tensor"]]}}),
        ("normexport.live_norm.default", {"x": some, "scale": some, "bias": some, "kind": words}),
        ("normexport.running_norm.default", {**norm, "kind": dice.one_of((words, {"as_string": "l1"}))}),
        ("normexport.bounded_weight_norm.default", {"v": some, "rho": some}), ("higher_order.cond", {"pred": some}),
        ("quantized.linear.default", {"X": some}), ("profiler._record_function_enter_new.default", {"name": words}),
    )  # fmt: skip


@cache
def _schemas() -> list[Any]:
    """Every overload of every aten operator, those with outputs to write to left out."""
    every = torch._C._jit_get_all_schemas()
    return sorted(
        (each for each in every if each.name.startswith("aten::") and not any(a.is_out for a in each.arguments)),
        key=str,
    )


def _any_operator(tensors: list[str], dice: Dice) -> tuple[str, dict[str, Value], int]:
    """An operator with arguments of the right types: (name, arguments, number of tensors that it gives)."""
    schema = dice.one_of(_schemas())
    arguments = {}
    for argument in schema.arguments:
        optional = argument.has_default_value()
        if not optional or dice.chance(30):
            arguments[argument.name] = _value(str(argument.type), tensors, dice)
    name = f"aten.{schema.name.removeprefix('aten::')}.{schema.overload_name or 'default'}"
    return name, arguments, sum(str(each.type) == "Tensor" for each in schema.returns) or 1


def _value(kind: str, tensors: list[str], dice: Dice) -> Value:
    """An argument of that type; sizes are small, zero, negative or huge."""
    if kind.startswith("Optional"):
        return {"as_none": True} if dice.chance(50) else _value(kind[9:-1], tensors, dice)
    some = {"name": dice.one_of(tensors)}
    size = dice.one_of((0, 1, 1, 2, 2, 3, 6, 8, -1, -2, dice.one_of(hostile.INTEGERS) % 2**62))
    values: dict[str, Value] = {
        "Tensor": {"as_tensor": some},
        "int": {"as_int": size},
        "SymInt": {"as_int": size},
        "number": dice.one_of(({"as_int": size}, {"as_float": dice.one_of((0.0, 1.0, -1.5, 1e38))})),
        "float": {"as_float": dice.one_of((0.0, 1.0, -1.5, 1e300))},
        "bool": {"as_bool": dice.chance(50)},
        "str": {"as_string": dice.one_of(("none", "mean", "floor", "i,i->i", hostile.text(dice)))},
        "List[int]": {"as_ints": [dice.one_of((0, 1, 1, 2, 3, 8, -1, size)) for _ in range(dice.randrange(5))]},
        "List[SymInt]": {"as_ints": [dice.one_of((0, 1, 1, 2, 3, 8, -1, size)) for _ in range(dice.randrange(5))]},
        "List[Tensor]": {"as_tensors": [some, {"name": dice.one_of(tensors)}]},
        "List[bool]": {"as_bools": [dice.chance(50) for _ in range(3)]},
        "List[float]": {"as_floats": [1.0, 0.0]},
        "Device": {"as_device": {"type": "cpu", "index": None}},
    }
    return values.get(kind, {"as_none": True})
