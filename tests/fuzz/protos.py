"""ONNX files field by field: every field of every message by reflection, and what the wire can say beside it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor

from tests.fuzz import graph_attacks, hostile, raw
from tests.fuzz.dice import Dice

Model = onnx.ModelProto
_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
#: Stands where bytes that are no UTF-8 will stand: Python's protobuf can't hold those.
_NO_UTF8 = "@no-utf-8@"


def mutate(data: bytes, dice: Dice) -> tuple[bytes, str]:
    """An ONNX file with one change, and that change in words."""
    way = dice.choices(("field", "craft", "wire", "bytes"), (62, 25, 8, 5))[0]
    if way == "bytes":
        return raw.mutate(data, dice)
    if way == "wire":
        return _wire(data, dice)
    model = Model()
    model.ParseFromString(data)
    words = _field(model, dice) if way == "field" else graph_attacks.mutate(model, dice)
    return model.SerializePartialToString().replace(_NO_UTF8.encode(), b"\xff\xfe\xc3\x28\x80aaaaa"), words


def places(message: Any) -> dict[str, list[tuple[Any, FieldDescriptor, int | None]]]:
    """Path of fields -> where they are set: (message, field, index or None)."""
    found: dict[str, list[tuple[Any, FieldDescriptor, int | None]]] = defaultdict(list)
    pending = [(message, "")]
    while pending:
        here, path = pending.pop()
        for field, value in here.ListFields():
            name = f"{path}.{field.name}"
            indices = range(len(value)) if field.is_repeated else (None,)
            for index in indices:
                found[name].append((here, field, index))
                if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                    pending.append((value if index is None else value[index], name))
    return dict(found)


def _field(model: Model, dice: Dice) -> str:
    found = places(model)
    if not found:
        return "nothing"
    path = dice.one_of(sorted(found))
    message, field, index = dice.one_of(found[path])
    if dice.chance(20):  # a field of the schema that is not set here
        unset = dice.one_of(message.DESCRIPTOR.fields)
        return f"{path}: {_add(message, unset, dice)}"
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE or dice.chance(20):
        return f"{path}: {_structure(message, field, index, found, dice)}"
    old = getattr(message, field.name)
    value = _scalar(field, old if index is None else old[index], dice)
    if index is None:
        setattr(message, field.name, value)
    else:
        old[index] = value
    return f"{path} = {value!r:.60}"


def _scalar(field: FieldDescriptor, old: Any, dice: Dice) -> Any:
    if field.cpp_type in _LIMITS:
        low, high = _LIMITS[field.cpp_type]
        wanted = (
            hostile.integer(dice) if dice.chance(60) else old + dice.one_of((1, -1, 2, 16, dice.randrange(30) - old))
        )
        return max(low, min(high, wanted))
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return dice.one_of(sorted(field.enum_type.values_by_number))
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return dice.one_of(hostile.FLOATS)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return dice.one_of(
            (
                b"",
                bytes(old)[: len(old) // 2],
                bytes(old) + b"\0",
                bytes(old) * 2,
                raw.mutate(bytes(old), dice)[0],
                b"\xff" * len(old),
            )
        )
    text = (
        hostile.text(dice)
        if dice.chance(75)
        else dice.one_of((old.upper(), old + "_", _NO_UTF8, "Identity", "If", "Loop", "Constant", "x"))
    )
    return text.encode("utf-8", "replace").decode()


def _add(message: Any, field: FieldDescriptor, dice: Dice) -> str:
    value = getattr(message, field.name)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        new = value.add() if field.is_repeated else value
        new.SetInParent() if not field.is_repeated else None
        return f"empty {field.name} added"
    scalar = _scalar(
        field,
        {FieldDescriptor.CPPTYPE_STRING: ""}.get(field.cpp_type, 0)
        if field.type != FieldDescriptor.TYPE_BYTES
        else b"",
        dice,
    )
    if field.is_repeated:
        value.append(scalar)
    else:
        setattr(message, field.name, scalar)
    return f"{field.name} added as {scalar!r:.60}"


def _structure(message: Any, field: FieldDescriptor, index: int | None, found: Any, dice: Dice) -> str:
    value = getattr(message, field.name)
    if index is None:
        message.ClearField(field.name)
        return "cleared"
    way = dice.one_of(("drop", "twice", "swap", "many", "clear", "other"))
    is_message = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
    if way in ("twice", "many") or not is_message:
        for _ in range(1 if way != "many" else dice.one_of((3, 50))):
            value.append(value[index])
    elif way == "drop":
        del value[index]
    elif way == "clear":
        value[index].Clear()
    else:
        type_name = value[index].DESCRIPTOR.full_name
        alike = [
            (other, each, place) for spots in found.values() for other, each, place in spots
            if each.message_type is not None and each.message_type.full_name == type_name and place is not None
        ]  # fmt: skip
        other, each, place = dice.one_of(alike)
        copied = type(value[index])()
        copied.CopyFrom(getattr(other, each.name)[place])
        value[index].CopyFrom(copied)
    return way


def _wire(data: bytes, dice: Dice) -> tuple[bytes, str]:
    ways = {
        "merged": data + data[: len(data) // 2],
        "twice": data + data,
        "unknown field": data + b"\xfa\x7f\x05hello",
        "group": data + b"\x0b" * dice.one_of((1, 200)),
        "varint of eleven bytes": data + b"\x08" + b"\xff" * 11,
        "length beyond the end": data + b"\x3a\xff\xff\xff\xff\x07",
        "wrong type": b"\x0a\x03abc" + data,
        "field 0": data + b"\x02\x01a",
        "deep": data + _deep_message(dice.one_of((50, 99, 101, 3000))),
        "graph twice": data + b"\x3a\x04\x12\x02ab",
        "empty": b"",
        "text": b'ir_version: 8\ngraph { name: "a" }',
        "json": b'{"irVersion": "8"}',
    }
    way = dice.one_of(sorted(ways))
    return ways[way], f"wire: {way}"


def _deep_message(depth: int) -> bytes:
    """graph.node.attribute.g.node... nested that often."""
    out = b""
    for _ in range(depth):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # AttributeProto.g, NodeProto.attribute, GraphProto.node
            size, length = len(out), b""
            while size >= 128:
                length += bytes([size & 127 | 128])
                size >>= 7
            out = tag + length + bytes([size]) + out
        if len(out) > 200_000:
            break
    size, length = len(out), b""
    while size >= 128:
        length += bytes([size & 127 | 128])
        size >>= 7
    return b"\x3a" + length + bytes([size]) + out
