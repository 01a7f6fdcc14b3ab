"""Archives of exported programs that mean harm: refused in one line, and nothing of them has run."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from checkpoint.support import IMAGES, Payload, exported, l1_trained, refused
from torch import nn

from normexport import check
from normexport.checkpoint import load
from normexport.errors import NormExportError

DYNAMIC = ({0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """An honest archive with open sizes, made once; tests change copies of it."""
    return exported(tmp_path_factory.mktemp("honest") / "m.pt2", l1_trained(), dynamic_shapes=DYNAMIC)


@pytest.fixture
def marker(tmp_path):
    """What an attack that succeeds makes."""
    return tmp_path / "marker"


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}


def written(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"m/{name}", content)
    return path


def changed_program(source: Path, target: Path, change) -> Path:
    """The archive with its program's JSON changed in place by `change(program)`."""
    members = members_of(source)
    found = json.loads(members["models/model.json"])
    change(found)
    return written(target, {**members, "models/model.json": json.dumps(found).encode()})


def changed_text(source: Path, target: Path, old: str, new: str) -> Path:
    """The archive with a text of its program's JSON changed, wherever it stands."""
    members = members_of(source)
    text = members["models/model.json"].decode()
    assert old in text
    return written(target, {**members, "models/model.json": text.replace(old, new).encode()})


def opens_in_torch(path: Path) -> None:
    """What PyTorch's own reader makes of it, whatever that is."""
    try:
        torch.export.load(path).module()
    except Exception:
        return


def would_run(path: Path, marker: Path) -> str:
    message = refused(path)
    assert not marker.exists()
    assert "would run code to be opened: " in message, message
    return message


def damaged(path: Path) -> str:
    message = refused(path)
    assert "is a damaged exported program: " in message or "is truncated or damaged" in message, message
    return message


def pickled(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "data/aotinductor/model/model.so",
        "data/aotinductor/model/wrapper.cpp",
        "data/sample_inputs/x.pt",
        "data/sample_inputs/x.PT",
        "data/weights/model.pt",
        "data/constants/model.pt",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/executorch/x",
        "models/other.json",
        "models/__init__.py",
        "xl_model_weights/x",
    ],
)
def test_members_that_a_plain_program_does_not_need_are_refused_by_name(program, tmp_path, marker, name):
    file = written(tmp_path / "m.pt2", {**members_of(program), name: pickled(Payload(marker))})
    assert f"the member '{name}'" in would_run(file, marker)


def test_an_archive_without_its_version_is_not_read_as_one_of_an_older_pytorch(program, tmp_path, marker):
    """PyTorch falls back to the format of 2.7, whose weights are pickles."""
    old = {
        "version": b"8.8",
        "serialized_exported_program.json": members_of(program)["models/model.json"],
        "serialized_state_dict.pt": pickled(Payload(marker)),
        "serialized_constants.pt": pickled({}),
        "serialized_example_inputs.pt": pickled(((), {})),
    }
    members = members_of(program)
    del members["archive_version"]
    file = written(tmp_path / "m.pt2", members)
    with zipfile.ZipFile(file, "a") as archive:
        for name, content in old.items():
            archive.writestr(name, content)
    damaged(file)
    assert not marker.exists()
    opens_in_torch(file)
    assert marker.exists(), "the payload must be one that works"


@pytest.mark.parametrize("name", ["archive_format", "archive_version", "byteorder", "models/model.json"])
def test_an_archive_that_lacks_a_record_is_damaged(program, tmp_path, name):
    members = members_of(program)
    del members[name]
    refused(written(tmp_path / "m.pt2", members))


def enumeration(marker: Path, *, escaped: bool) -> str:
    """A structure of inputs whose key is an enumeration, which PyTorch imports and subscripts."""
    key = "\\u005f_enum__" if escaped else "__enum__"
    keys = f'[{{"{key}": true, "fqn": "planted:Trap", "name": "{marker}"}}]'
    leaf = {"type": None, "context": None, "children_spec": []}
    arguments = {"type": "builtins.tuple", "context": "null", "children_spec": [leaf]}
    named = {"type": "builtins.dict", "context": keys, "children_spec": [leaf]}
    return json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [arguments, named]}])


@pytest.mark.parametrize("escaped", [True, False])
def test_a_structure_that_imports_a_class_is_refused(program, tmp_path, marker, monkeypatch, escaped):
    (tmp_path / "planted.py").write_text(
        "import os\nclass Meta(type):\n    def __getitem__(cls, name): os.mkdir(name); return name\n"
        "class Trap(metaclass=Meta): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = enumeration(marker, escaped=escaped)

    def change(found):
        found["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec

    file = changed_program(program, tmp_path / "m.pt2", change)
    assert "the keys " in would_run(file, marker)
    opens_in_torch(file)
    assert marker.exists(), "the payload must be one that works"


@pytest.mark.parametrize("kind", ["collections.defaultdict", "collections.namedtuple", "my.Own", "torch.nn.Module"])
def test_a_structure_of_types_that_are_imported_is_refused(program, tmp_path, marker, kind):
    def change(found):
        signature = found["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = json.dumps([1, {"type": kind, "context": '"os:system"', "children_spec": []}])

    assert f"the type '{kind}', imported" in would_run(changed_program(program, tmp_path / "m.pt2", change), marker)


def test_a_graph_that_writes_into_a_file_is_refused(program, tmp_path, marker):
    victim = tmp_path / "victim"
    victim.write_bytes(b"\x01" * 64)

    def change(found):
        graph = found["graph_module"]["graph"]
        first = graph["nodes"][0]
        value = {**graph["tensor_values"]["p_0_bias"], "sizes": ints(16), "requires_grad": False}
        graph["tensor_values"].update(opened=value, filled=value)

        def node(target, output, **arguments):
            inputs = [{"name": name, "arg": value, "kind": 1} for name, value in arguments.items()]
            made = {"target": target, "inputs": inputs, "outputs": [{"as_tensor": {"name": output}}], "name": output}
            return {**first, **made}

        graph["nodes"][:0] = [
            node(
                "torch.ops.aten.from_file.default", "opened", filename={"as_string": str(victim)},
                shared={"as_bool": True}, size={"as_int": 16},
            ),
            node(
                "torch.ops.aten.fill_.Scalar", "filled", self={"as_tensor": {"name": "opened"}},
                value={"as_float": 7.0},
            ),
        ]  # fmt: skip

    file = changed_program(program, tmp_path / "m.pt2", change)
    assert "the operator 'torch.ops.aten.from_file.default'" in would_run(file, marker)
    assert victim.read_bytes() == b"\x01" * 64
    torch.export.load(file).module()(IMAGES)
    assert victim.read_bytes() == struct.pack("<f", 7.0) * 16, "the attack must be one that works"


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.from_file.out",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.resize_.default",
        "torch.ops.aten.record_stream.default",
        "torch.ops.aten._print.default",
        "torch.ops.aten.add.out",
        "torch.ops.aten.__class__.default",
        "torch.ops.aten.rand.default",
        "torch.ops.aten.bernoulli.default",
        "torch.ops.aten.normal_.default",
        "torch.ops.higher_order.triton_kernel_wrapper_mutation",
        "torch.ops.higher_order.call_torchbind",
        "torch.ops.higher_order.print",
        "torch.ops.profiler._record_function_enter.default",
        "torch.ops.normexport.other.default",
        "torch.ops.c10d.broadcast_.default",
        "torch.ops.inductor.resize_storage_bytes_.default",
        "torch.load",
        "torch.compile",
        "_operator.call",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "math.factorial",
        "#planted:x",
        "os.system",
        "torch._dynamo.config.x",
        "torch.ops.aten.add.Tensor\n",
    ],
)
def test_operators_off_the_list_are_refused_by_name(program, tmp_path, marker, target):
    def change(found):
        found["graph_module"]["graph"]["nodes"][0]["target"] = target

    assert "the operator " in would_run(changed_program(program, tmp_path / "m.pt2", change), marker)


def test_a_function_given_as_an_argument_is_held_to_the_same_list(program, tmp_path, marker):
    def change(found):
        found["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {"as_operator": "torch.hub.load"}

    assert "the operator 'torch.hub.load'" in would_run(changed_program(program, tmp_path / "m.pt2", change), marker)


EXPRESSIONS = [
    "x), __import__('os').mkdir('{marker}'), (x",
    "x = __import__('os').mkdir('{marker}')",
    "x\n__import__('os').mkdir('{marker}')\n",
    "x\r    __import__('os').mkdir('{marker}')\r",
    "a;b",
    "a b",
    'a"]+b["',
    "__class__",
    "",
    "ａ",
    "lambda",
]


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("old", ["conv2d", "input", "relu"])
def test_names_of_values_that_are_expressions_are_refused(program, tmp_path, marker, old, name):
    """torch.fx writes them into Python source and executes it."""
    new = json.dumps(name.format(marker=marker))
    refused(changed_text(program, tmp_path / "m.pt2", f'"{old}"', new))
    assert not marker.exists()


@pytest.mark.parametrize("name", [each for each in EXPRESSIONS if each not in ("lambda", "a b", "")])
def test_names_of_parameters_that_are_expressions_are_refused(program, tmp_path, marker, name):
    name = name.format(marker=marker)
    members = members_of(program)
    for member in ("models/model.json", "data/weights/model_weights_config.json"):
        members[member] = members[member].decode().replace('"0.weight"', json.dumps(f"0.{name}")).encode()
    assert "the name " in would_run(written(tmp_path / "m.pt2", members), marker)


@pytest.mark.parametrize(
    "names", [["x", "y=__import__('os').mkdir('{marker}')"], ["self"], ["*args"], ["x: print(1)"], ["None"]]
)
def test_names_of_arguments_that_are_expressions_are_refused(program, tmp_path, marker, names):
    def change(found):
        signature = found["graph_module"]["module_call_graph"][0]["signature"]
        signature["forward_arg_names"] = [each.format(marker=marker) for each in names]

    would_run(changed_program(program, tmp_path / "m.pt2", change), marker)


SIZES = [
    "__import__('os').mkdir('{marker}')",
    'Symbol(\'__import__("os").mkdir("{marker}")\')',
    "Symbol('s0', positive=print(1))",
    "Integer(1).__class__",
    "Lambda(Symbol('x'), 1)",
    "sympify('1')",
    "[s0 for s0 in (1,)]",
    "Pow(Integer(9), Pow(Integer(9), Pow(Integer(9), Integer(9))))",
    "9**9**9**9",
    "LShift(Integer(1), Integer(99999999999))",
    "Mul(" + ", ".join(["Integer(9223372036854775807)"] * 100) + ")",
    "Float('1e999999999', precision=53)",
    "Float('1.5', precision=99999999)",
    "-" * 200 + "s0",
    "(" * 100_000,
    "Add(" * 80 + "s0" + ")" * 80,
    "factorial(Integer(100000))",
    "s0!",
    "f'{{s0}}'",
    "s0 if s0 else s0",
    "s0\n",
]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_that_are_more_than_small_arithmetic_are_refused(program, tmp_path, marker, size):
    def change(found):
        sizes = found["graph_module"]["graph"]["tensor_values"]["input"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = size.format(marker=marker)

    assert "the size " in would_run(changed_program(program, tmp_path / "m.pt2", change), marker)


GUARDS = [
    "__import__('os').mkdir('{marker}')",
    "exec(chr(49))",
    "L.__class__",
    "L['x'].__class__ == 1",
    "L['x'].size.__globals__",
    "L['x'].apply_(print)",
    "L['x'].data_ptr() > 1",
    "torch.load('x') == 1",
    "torch.ops.aten.add == 1",
    "math.factorial(99999)",
    "[print for x in L]",
    "(lambda: 1)()",
    "L['x\"]'].size()[0] > 1",
    "9**9**9**9 > 1",
    "(1 << 99999999999) > 1",
    "L['x'].size()[0] > 1, print(1)",
    "L['x'].size()[0] > 1 if 1 else 2",
    "f'{{L}}'",
    "(y := 1)",
]


@pytest.mark.parametrize("guard", GUARDS)
def test_guards_that_are_more_than_conditions_on_sizes_are_refused(program, tmp_path, marker, guard):
    def change(found):
        found["guards_code"] = [guard.format(marker=marker)]

    assert "the guard " in would_run(changed_program(program, tmp_path / "m.pt2", change), marker)


@pytest.mark.parametrize(
    "guard",
    [
        "L['x'].size()[2] // 2 >= 2",
        "L['args'][0]['mask'].shape[-1] != 1",
        "torch.sym_max(L['x'].size()[2], 3) <= 2**16",
        "torch.sym_min(1, L['x'].size()[0]) == torch.sym_not(L['x'].numel() > 3)",
        "torch.sym_float(L['x'].size()[0]) / 2 < math.floor(torch.sym_int(3.5))",
        "not (L['x'].stride()[0] == 1 or L['x'].storage_offset() > 0)",
        "max(1, min(abs(L['x'].size()[2] - 3), 5)) % 2 == 0",
    ],
)
def test_guards_as_pytorch_writes_them_open(program, tmp_path, guard):
    file = changed_program(program, tmp_path / "m.pt2", lambda found: found["guards_code"].append(guard))
    assert load(file).source == "program"


def two_directories(path: Path, marker: Path) -> Path:
    """One archive for readers of the small end record, another for those of its zip64 form."""
    honest, other = path.read_bytes(), io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        for name, content in members_of(path).items():
            evil = pickled(Payload(marker)) if name.endswith("sample_inputs/model.pt") else content
            archive.writestr(f"m/{name}", evil)
    evil = other.getvalue()
    end = evil[-22:]
    count, length, begin = struct.unpack("<8x2xH2L2x", end)
    # Offsets of the second archive are counted from its own start, so it stands first.
    honest_end = honest[-98:]
    h_count, h_length, h_begin = struct.unpack("<4sQ2H2L4Q", honest_end[:56])[7:10]
    first = honest[:h_begin]
    at = len(evil) - 22
    directory = honest[h_begin : h_begin + h_length]
    zip64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, h_count, h_count, h_length, at)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at + h_length, 1)
    small = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, length, begin, 0)
    assert first
    path.write_bytes(evil[:at] + directory + zip64 + locator + small)
    return path


def test_an_archive_with_two_directories_is_refused(program, tmp_path, marker):
    file = tmp_path / "m.pt2"
    file.write_bytes(program.read_bytes())
    assert "two directories that contradict each other" in damaged(two_directories(file, marker))
    assert not marker.exists()


def config(program: Path, target: Path, **changes) -> Path:
    """The archive with fields of the weight 0.weight changed: of its payload, or of its tensor_meta."""
    members = members_of(program)
    table = json.loads(members["data/weights/model_weights_config.json"])
    entry = table["config"]["0.weight"]
    for name, value in changes.items():
        (entry if name in entry else entry["tensor_meta"])[name] = value
    return written(target, {**members, "data/weights/model_weights_config.json": json.dumps(table).encode()})


def ints(*numbers):
    return [{"as_int": number} for number in numbers]


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": ints(10**6, 10**6, 10**6, 10**6), "strides": ints(0, 0, 0, 0)},
        {"sizes": ints(2**62, 2**62, 2**62, 2**62)},
        {"sizes": ints(6, 3, 3, 4)},
        {"sizes": ints(6, 3, 3)},
        {"sizes": ints(-6, 3, 3, 3)},
        {"strides": ints(-27, 9, 3, 1)},
        {"strides": ints(2**62, 9, 3, 1)},
        {"storage_offset": {"as_int": 1}},
        {"storage_offset": {"as_int": -1}},
        {"storage_offset": {"as_expr": {"expr_str": "s0"}}},
        {"dtype": 8},
        {"dtype": 9},
        {"dtype": 99},
        {"dtype": True},
        {"layout": 1},
        {"path_name": "weight_99"},
        {"tensor_meta": None},
        {"is_param": "yes"},
    ],
)
def test_weights_that_are_not_in_the_file_are_refused(program, tmp_path, changes):
    message = refused(config(program, tmp_path / "m.pt2", **changes))
    assert "would run code" in message or "is a damaged exported program: " in message


@pytest.mark.parametrize("name", ["../../x", "weight_0/../../x", "/etc/passwd", "custom_obj_0", "opaque_obj_0", "x.pt"])
def test_weights_in_other_files_are_refused(program, tmp_path, marker, name):
    would_run(config(program, tmp_path / "m.pt2", path_name=name), marker)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"config": {}, "config": {}}',
        b'{"config": NaN}',
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"config": 3}',
    ],
)
def test_tables_that_are_no_plain_json_are_refused(program, tmp_path, text):
    members = members_of(program)
    damaged(written(tmp_path / "m.pt2", {**members, "data/weights/model_weights_config.json": text}))
    refused(written(tmp_path / "m.pt2", {**members, "models/model.json": text}))


def test_a_program_within_a_program_without_end_is_refused(program, tmp_path):
    members = members_of(program)
    graph = json.loads(members["models/model.json"])["graph_module"]["graph"]
    inner = json.dumps(graph)
    for _ in range(12):
        inner = json.dumps({**graph, "nodes": [{**graph["nodes"][0], "inputs": [
            {"name": "", "kind": 1, "arg": {"as_graph": {"name": "g", "graph": json.loads(inner)}}}]}]})  # fmt: skip

    def change(found):
        found["graph_module"]["graph"] = json.loads(inner)

    damaged(changed_program(program, tmp_path / "m.pt2", change))


@pytest.mark.parametrize("name", ["forward", "training", "class", "self", "_guards_fn", "_buffers.x", "0.bias.x"])
def test_names_that_pytorch_stumbles_over_end_in_words(program, tmp_path, name, capfd):
    """They call nothing, but torch.fx can't write or run what holds them, and says so at length."""
    members = members_of(program)
    for member in ("models/model.json", "data/weights/model_weights_config.json"):
        members[member] = members[member].replace(b'"0.weight"', json.dumps(name).encode())
    file = written(tmp_path / "m.pt2", members)
    error = None
    try:
        check(file, file)
    except NormExportError as found:
        error = found
    assert error is None or ("\n" not in str(error) and error.exit_code in (2, 3))
    assert capfd.readouterr().err == ""


def test_dropout_that_is_switched_on_is_refused_and_off_it_opens(tmp_path, marker):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))
    assert load(exported(tmp_path / "off.pt2", net.eval())).source == "program"
    on = exported(tmp_path / "on.pt2", net.train())
    assert "draws random numbers" in would_run(on, marker)
    assert load(on, trust=True).source == "program"


def test_an_object_of_the_authors_class_is_refused(program, tmp_path, marker):
    def change(found):
        found["graph_module"]["signature"]["input_specs"].append(
            {"custom_obj": {"arg": {"name": "x", "class_fqn": "planted.Trap"}, "custom_obj_name": "x"}}
        )

    assert "an object of the author's own class" in would_run(
        changed_program(program, tmp_path / "m.pt2", change), marker
    )


@pytest.mark.parametrize("name", ["u99999999", "s0 + 1", "__x__", "s0\n"])
def test_names_of_sizes_that_are_none_are_refused(program, tmp_path, name):
    def change(found):
        found["range_constraints"][name] = {"min_val": 0, "max_val": 9}

    refused(changed_program(program, tmp_path / "m.pt2", change))


def test_untrusted_archives_open_with_trust_where_they_did(program, tmp_path, marker):
    extra = written(tmp_path / "m.pt2", {**members_of(program), "data/sample_inputs/x.PT": pickled(Payload(marker))})
    would_run(extra, marker)
    assert load(extra, trust=True).source == "program"


def test_a_rebuilt_program_is_the_program(program):
    """Graph, signature, ranges and every weight are those that PyTorch's own reader finds; guards still hold."""
    ours, torchs = load(program).program, torch.export.load(program)
    assert ours.graph_module.code == torchs.graph_module.code
    assert ours.graph_signature == torchs.graph_signature
    assert str(ours.range_constraints) == str(torchs.range_constraints)
    for name, value in torchs.state_dict.items():
        own = ours.state_dict[name]
        assert (type(own), own.dtype, own.stride()) == (type(value), value.dtype, value.stride())
        assert torch.equal(own, value)
    assert torch.equal(ours.module()(IMAGES), torchs.module()(IMAGES))
    for each in (ours, torchs):
        with pytest.raises((AssertionError, RuntimeError)):
            each.module()(IMAGES[:, :, :2])  # smaller than the kernel


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.uint16, torch.bool, torch.complex64,
     torch.float8_e4m3fn],
)  # fmt: skip
def test_constants_of_every_type_are_read_bit_for_bit(tmp_path, dtype):
    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.arange(24, dtype=torch.float32).to(dtype)
            self.register_buffer("whole", whole)
            self.register_buffer("part", whole.view(4, 6)[1:, ::2], persistent=True)
            self.register_buffer("turned", whole.view(4, 6).t(), persistent=False)
            self.register_buffer("none", whole[:0])
            self.register_buffer("scalar", whole[3].clone())

        def forward(self, x):
            return x + self.whole.shape[0], self.part, self.turned, self.none, self.scalar

    file = exported(tmp_path / "m.pt2", Holds().eval())
    ours, torchs = load(file).program, torch.export.load(file)
    for own, other in ((ours.state_dict, torchs.state_dict), (ours.constants, torchs.constants)):
        assert list(own) == list(other)
        for name, value in other.items():
            assert (own[name].dtype, own[name].shape, own[name].stride()) == (value.dtype, value.shape, value.stride())
            assert own[name].contiguous().flatten().tolist() == value.contiguous().flatten().tolist()
    assert ours.state_dict["whole"].data_ptr() == ours.state_dict["part"].data_ptr() - 6 * dtype.itemsize


def test_a_program_exported_on_a_gpu_is_read_for_the_cpu(program, tmp_path):
    members = members_of(program)
    for name in ("models/model.json", "data/weights/model_weights_config.json"):
        members[name] = members[name].replace(b'{"type": "cpu", "index": null}', b'{"type": "cuda", "index": 0}')
    net = l1_trained()
    torch.testing.assert_close(load(written(tmp_path / "m.pt2", members)).program.module()(IMAGES), net(IMAGES))
