"""Texts of exported programs that are code: names, operators, sizes and guards; refused, and nothing has run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from normexport import check
from normexport.checkpoint import load
from normexport.checkpoint.pt2 import schema
from normexport.errors import ExitCode, NormExportError
from tests.checkpoint.program_archives import changed_program, changed_text, members_of, would_run, written
from tests.checkpoint.support import refused


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
def test_operators_off_the_list_are_refused_by_name(program: Path, tmp_path: Path, marker: Path, target: str) -> None:
    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["graph"]["nodes"][0]["target"] = target

    assert "the operator " in would_run(changed_program(program, tmp_path / "m.pt2", change), marker)


def test_a_function_given_as_an_argument_is_held_to_the_same_list(program: Path, tmp_path: Path, marker: Path) -> None:
    def change(found: dict[str, Any]) -> None:
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
def test_names_of_values_that_are_expressions_are_refused(
    program: Path, tmp_path: Path, marker: Path, old: str, name: str
) -> None:
    """torch.fx writes them into Python source and executes it."""
    new = json.dumps(name.format(marker=marker))
    refused(changed_text(program, tmp_path / "m.pt2", f'"{old}"', new))
    assert not marker.exists()


@pytest.mark.parametrize("name", [each for each in EXPRESSIONS if each not in ("lambda", "a b", "")])
def test_names_of_parameters_that_are_expressions_are_refused(
    program: Path, tmp_path: Path, marker: Path, name: str
) -> None:
    name = name.format(marker=marker)
    members = members_of(program)
    for member in ("models/model.json", "data/weights/model_weights_config.json"):
        members[member] = members[member].decode().replace('"0.weight"', json.dumps(f"0.{name}")).encode()
    assert "the name " in would_run(written(tmp_path / "m.pt2", members), marker)


@pytest.mark.parametrize(
    "names", [["x", "y=__import__('os').mkdir('{marker}')"], ["self"], ["*args"], ["x: print(1)"], ["None"]]
)
def test_names_of_arguments_that_are_expressions_are_refused(
    program: Path, tmp_path: Path, marker: Path, names: list[str]
) -> None:
    def change(found: dict[str, Any]) -> None:
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
def test_sizes_that_are_more_than_small_arithmetic_are_refused(
    program: Path, tmp_path: Path, marker: Path, size: str
) -> None:
    def change(found: dict[str, Any]) -> None:
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
def test_guards_that_are_more_than_conditions_on_sizes_are_refused(
    program: Path, tmp_path: Path, marker: Path, guard: str
) -> None:
    def change(found: dict[str, Any]) -> None:
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
def test_guards_as_pytorch_writes_them_open(program: Path, tmp_path: Path, guard: str) -> None:
    file = changed_program(program, tmp_path / "m.pt2", lambda found: found["guards_code"].append(guard))
    assert load(file).source == "program"


@pytest.mark.parametrize("name", ["forward", "training", "class", "self", "_guards_fn", "_buffers.x", "0.bias.x"])
def test_names_that_pytorch_stumbles_over_end_in_words(
    program: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
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
    assert error is None or ("\n" not in str(error) and error.exit_code in (ExitCode.USAGE, ExitCode.CHECKPOINT))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["u99999999", "s0 + s1", "2*s0*s1", "s0 + 1 ", "9**9", "__x__", "s0\n", "2*s0\n"])
def test_names_of_sizes_that_are_none_are_refused(program: Path, tmp_path: Path, name: str) -> None:
    def change(found: dict[str, Any]) -> None:
        found["range_constraints"][name] = {"min_val": 0, "max_val": 9}

    refused(changed_program(program, tmp_path / "m.pt2", change))


@pytest.mark.parametrize("name", ["s0 + 1", "2*s0", "2*s0 - 1"])
def test_ranges_of_sizes_that_another_gives_are_left_out(name: str) -> None:
    """PyTorch writes them beside the symbol's own and reads them not at all."""
    kept = schema._ranges({"s0": {"min_val": 1, "max_val": 4}, name: {"min_val": 2, "max_val": 8}}, 0)
    assert list(kept) == ["s0"]
