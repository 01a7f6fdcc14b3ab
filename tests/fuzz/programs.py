"""`.pt2` archives: the program as JSON, names changed everywhere at once, whole attacks as nodes and members."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from tests.fuzz import code_strings, hostile, pickles, program_attacks, raw, trees, zips
from tests.fuzz.dice import Dice
from tests.fuzz.zips import Record, with_data

Records = list[Record]


def _treespec(kind: str, context: str, children: str = "") -> str:
    """The structure of inputs or outputs as text."""
    return json.dumps([1, {"type": kind, "context": context, "children_spec": []}]).replace("[]}", f"[{children}]}}")


#: Strings that the schema's places of code and types take seriously.
STRINGS = (
    *hostile.TARGETS, _treespec("builtins.tuple", "null"), _treespec("owned_module.f", "null"), "[2, {}]",
    _treespec("collections.OrderedDict", '["a"]', '{"type": null, "context": null, "children_spec": []}'),
    _treespec("collections.defaultdict",
    r'{"default\u005ffactory_module": "os", "default\u005ffactory_name": "mkdir"}'),
    _treespec("builtins.dict", r'[{"__\u0065num__": true, "fqn": "owned_module:f", "name": "f"}]'),
    _treespec("builtins.list", "null", "[" * 3000),
    "Symbol('s0', positive=True, integer=True)", "Max(Integer(1), Symbol('s77', positive=True))",
    "Integer(10)**Integer(10)**Integer(10)", "Pow(Integer(9), Pow(Integer(9), Integer(99)))", "s0 * 10**12", "9**9**9",
    "-s0", "s0 // 0", "Mod(Integer(1), Integer(0))", "zoo", "nan", "torch.sym_max(L['x'].size()[0], 2) <= 8",
    "L['x'].size()[0] >= 10**12", "L['x'].size()[99] == 1", "max(9**9**9, 1) == 1", "lambda: 0",
    "(" * 300 + "1" + ")" * 300, "-" * 5000 + "1", "L['y'].size()[0] == 1", "len(L) == 1", "weight_0",
    "../weights/weight_0", "tensor_0", "custom_obj_0", "opaque_obj_0", "weight_99", "cuda", "meta", "cpu:99",
    "p_conv_weight", "conv.weight", "x", "getitem", "add", "s77", "u0",
)  # fmt: skip


def mutate(records: Records, dice: Dice) -> tuple[Records, str]:
    """The records with one change, and that change in words."""
    way = dice.weighted(WAYS)
    return way(records, dice)


def _json_at(records: Records, suffix: bytes) -> list[int]:
    return [at for at, record in enumerate(records) if record.name.endswith(suffix)]


def _last(record: Record) -> str:
    """The last part of a record's name."""
    return record.name.decode(errors="replace").rpartition("/")[2]


def _in_json(records: Records, dice: Dice, *suffixes: bytes) -> tuple[Records, str]:
    at = dice.one_of([at for suffix in suffixes for at in _json_at(records, suffix)] or [0])
    data, words = raw.unless(trees.mutate, records[at].data, dice, STRINGS)
    return with_data(records, at, data), f"{_last(records[at])} {words}"


def _program(records: Records, dice: Dice) -> tuple[Records, str]:
    return _in_json(records, dice, b"models/model.json")


def _configs(records: Records, dice: Dice) -> tuple[Records, str]:
    return _in_json(records, dice, b"weights_config.json", b"weights_config.json", b"constants_config.json")


def _renamed(records: Records, dice: Dice) -> tuple[Records, str]:
    """A name becomes another one in every place of every document, so that the program stays whole."""
    texts = b"".join(records[at].data for at in _json_at(records, b".json"))
    found = sorted(set(re.findall(rb'"([A-Za-z_][A-Za-z0-9_.]{0,60})"', texts)) - _SCHEMA)
    old = dice.one_of(found or [b"x"])
    new = json.dumps(hostile.name(dice) if dice.chance(80) else hostile.text(dice)).encode()
    changed = [
        replace(record, data=record.data.replace(b'"' + old + b'"', new)) if record.name.endswith(b".json") else record
        for record in records
    ]
    return changed, f"{old.decode()} renamed everywhere to {new[:60]!r}"


#: Words of the schema itself, which a renaming leaves alone.
_SCHEMA = frozenset(
    b"config path_name is_param use_pickle tensor_meta dtype sizes requires_grad device type index strides "
    b"storage_offset layout as_int as_tensor as_ints as_float as_bool as_string as_none as_expr as_sym_int "
    b"as_name as_graph as_tensors name arg kind target inputs outputs nodes metadata graph graph_module "
    b"signature module_call_graph tensor_values sym_int_values sym_bool_values custom_obj_values "
    b"is_single_tensor_return fqn spec in_spec out_spec opset_version range_constraints schema_version major "
    b"minor torch_version guards_code verifiers input_specs output_specs user_input parameter buffer "
    b"user_output parameter_name buffer_name persistent".split()
)


def _samples(records: Records, dice: Dice) -> tuple[Records, str]:
    """The sample inputs, an archive of their own with a pickle in it."""
    at = dice.one_of(_json_at(records, b".pt") or [0])
    try:
        inner = zips.read(records[at].data)
    except Exception:  # of an earlier change
        data, words = raw.mutate(records[at].data, dice)
        return with_data(records, at, data), f"samples {words}"
    pickle = [i for i, record in enumerate(inner) if record.name.endswith(b"data.pkl")]
    if pickle and dice.chance(70):
        data, words = raw.unless(pickles.mutate, inner[pickle[0]].data, dice)
        inner = with_data(inner, pickle[0], data)
    else:
        inner, words = zips.mutate(inner, dice)
    return with_data(records, at, zips.write(inner)), f"samples {words}"


def _versions(records: Records, dice: Dice) -> tuple[Records, str]:
    small = [at for at, record in enumerate(records) if len(record.data) <= 64 and b"/weights/" not in record.name]
    at = dice.one_of(small or [0])
    data = dice.one_of(
        (
            b"",
            b"0",
            b"99",
            b"-1",
            b"pt2 ",
            b"PT2",
            b"big",
            b"little\n",
            b"\xff",
            b"1\n",
            b"9" * 5000,
            "٣".encode(),
            dice.randbytes(8),
        )
    )
    return with_data(records, at, data), f"{_last(records[at])} = {data[:20]!r}"


def _container(records: Records, dice: Dice) -> tuple[Records, str]:
    return zips.mutate(records, dice)


def _weights(records: Records, dice: Dice) -> tuple[Records, str]:
    at = dice.one_of(
        [at for at, record in enumerate(records) if b"/weight_" in record.name or b"/tensor_" in record.name] or [0]
    )
    data = records[at].data
    data = dice.one_of(
        (
            b"\xff" * len(data),
            b"\x00" * len(data),
            hostile.payload(dice),
            zips.write([Record(b"a/data.pkl", hostile.payload(dice))]),
            data[:-1],
        )
    )
    return with_data(records, at, data), f"{_last(records[at])} has other data"


def _planted(records: Records, dice: Dice) -> tuple[Records, str]:
    """A member that some reader of PyTorch opens by its name."""
    root = records[0].name.partition(b"/")[0] + b"/"
    pickled = dice.one_of(
        (
            hostile.payload(dice),
            zips.write(
                [
                    Record(b"a/data.pkl", hostile.payload(dice)),
                    Record(b"a/version", b"3"),
                    Record(b"a/byteorder", b"little"),
                ]
            ),
        )
    )
    library = shared_object()
    name, data = dice.one_of((
        (b"data/aotinductor/model/model.so", library), (b"data/aotinductor/model/cabc.wrapper.so", library),
        (b"data/aotinductor/model/a.cpp", b"int x;"), (b"data/sample_inputs/x.PT", pickled),
        (b"data/sample_inputs/model.pt", pickled), (b"data/sample_inputs/other.pt", pickled),
        (b"data/weights/weights.pt", pickled), (b"data/constants/custom_obj_0", pickled),
        (b"data/constants/tensor_0", pickled), (b"data/constants/opaque_obj_0", pickled), (b"extra/note", b"hello"),
        (b"extra/" + b"x" * 3000, b""), (b"models/other.json", b"{}"),
        (b"models/other.json", records[_json_at(records, b"models/model.json")[0]].data if _json_at(records,
        b"models/model.json") else b"{}"),
        (b"executorch/model.pte", b"\0"), (b"code/__torch__.py", b"import os"), (b"data.pkl", hostile.payload(dice)),
        (b"constants.pkl", hostile.payload(dice)), (b"../serialized_exported_program.json", b"{}"),
        (b"serialized_exported_program.json", b"{}"), (b"serialized_state_dict.pt", pickled), (b"version", b"5.3"),
        (b"mtia/x", b""), (b"data/xl_model_weights/model_param_config.json", b'{"x": "y"}'), (b".data/x", b""),
        (b"", b"x"),
    ))  # fmt: skip
    member = name if name.startswith(b"serialized") and dice.chance(60) else root + name
    kept = [record for record in records if record.name != member]
    at = dice.randrange(len(kept) + 1)
    changed = [*kept[:at], Record(member, data), *kept[at:]]
    if dice.chance(20):  # as an archive of an older PyTorch
        changed = [record for record in changed if not record.name.endswith((b"archive_version", b"archive_format"))]
    return changed, f"planted {member[:60]!r}"


@cache
def shared_object() -> bytes:
    """A library that makes the marker when it is loaded; nothing where there is no C compiler."""
    body = f'{{ mkdir("{hostile.MARKER}", 0777); }}'
    source = f"#include <sys/stat.h>\n__attribute__((constructor)) static void run(void) {body}\n"
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "a.c").write_text(source)
        try:
            subprocess.run(["cc", "-shared", "-fPIC", "-o", "a.so", "a.c"], cwd=name, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return b"\x7fELF"
        return (Path(name) / "a.so").read_bytes()


def _attacked(records: Records, dice: Dice) -> tuple[Records, str]:
    """A node put into the graph: of side effects, of a size, or of any operator of PyTorch."""
    at = _json_at(records, b"models/model.json")[0]
    program = json.loads(records[at].data)
    words = program_attacks.insert(program["graph_module"], dice)
    return with_data(records, at, trees.written(program)), words


#: Ends of the schema's paths that hold such strings.
_CODE_PLACES = (
    ".in_spec", ".out_spec", ".expr_str", ".guards_code[]", ".target", ".fqn", ".name", ".forward_arg_names[]",
)  # fmt: skip


def _code_places(records: Records, dice: Dice) -> tuple[Records, str]:
    """A string that PyTorch reads as code, as an import or as the structure of inputs."""
    at = _json_at(records, b"models/model.json")[0]
    program = json.loads(records[at].data)
    found = trees.places(program)
    ends = {each: [path for path in sorted(found) if path.endswith(each)] for each in _CODE_PLACES}
    last = dice.one_of([each for each in _CODE_PLACES if ends[each]])
    container, key = dice.one_of(found[dice.one_of(ends[last])])
    old = str(container[key])
    if last.endswith("_spec"):
        change = trees.mutate if dice.chance(60) else trees.mutate_plausibly
        container[key] = raw.unless(change, old.encode(), dice)[0].decode(errors="replace")
    else:
        container[key] = code_strings.mutate(old, dice)
    return with_data(records, at, trees.written(program)), f"code at {last}: {old[:60]!r} -> {container[key][:60]!r}"


def _plausible(records: Records, dice: Dice) -> tuple[Records, str]:
    """A value of the program or of a table, where another of its kind stood: what a strict reader lets through."""
    at = dice.one_of(_json_at(records, b"models/model.json") * 2 + _json_at(records, b"weights_config.json"))
    data, words = raw.unless(trees.mutate_plausibly, records[at].data, dice)
    return with_data(records, at, data), f"{_last(records[at])} plausibly {words}"


WAYS: dict[Callable[[Records, Dice], tuple[Records, str]], int] = {
    _program: 22, _configs: 10, _renamed: 12, _samples: 7, _versions: 3, _container: 8, _weights: 4, _planted: 6,
    _attacked: 18, _plausible: 22, _code_places: 16,
}  # fmt: skip
