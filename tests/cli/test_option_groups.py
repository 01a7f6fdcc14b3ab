"""Option groups: what typer sees of a dataclass, what the command gets, and that no option has a home of its own."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from normexport_cli.app import COMMANDS, app
from normexport_cli.groups import grouped
from normexport_cli.precision_options import PrecisionOptions
from typer.main import get_command
from typer.testing import CliRunner

from normexport.errors import UsageError

FOLDER = Path(__file__).parents[2] / "tools" / "normexport_cli"

IMAGES = "--preset --mean --std --scale --layout --resize --crop --channels --interpolation --preprocess"
LOAD = "--model --model-kwargs --dialect --trust --unquantised --weights --prefix --ignore-keys"
#: The options of every command in the order of its help: scripts of users depend on them.
FLAGS = {
    "inspect": f"--input {LOAD} --weights-under --html",
    "convert": f"--output --input {LOAD} --weights-under "
    "--batch --opset --input-names --output-names --no-fold "
    f"--inline --fixed-weights --openvino --data --batches --runtime {IMAGES} --samples --seed --skip-bad "
    "--precision --io-dtype --keep-fp32 --calibration-data "
    "--calibration --calibration-cache --calibration-batch --metric --max-drop --min-snr --symmetric --labels-for "
    "--effort --remainder --placement --placement-plot --sensitivity --on --workers --engine --flavor --target "
    "--no-plugins --debug-tensors --capsule --capsule-size --bundle --bundle-name --bom",
    "calibrate collect": "--data --output --input --batch --samples --seed --part --skip-bad --resume "
    f"{IMAGES} --on --workers {LOAD} --weights-under",
    "calibrate merge": "--output",
    "export": f"--output --input --inline {LOAD} --batch --opset --input-names --output-names",
    "fold": "--output --live-operators --inline --fixed-weights --weights-under",
    "build": "--output --flavor --target --minShapes --optShapes --maxShapes --no-plugins --require --plugin-library "
    "--no-embed --timing-cache --workspace --optimization-level --version-compatible --hardware-compatible "
    "--weight-streaming --refit --tf32 --debug-tensors --ep-context --ep-context-embed --timeout --weights-under --log",
    "run": "--inputs --output --trust --plugin-library --runtime-cache --weights-under",
    "parity": f"--layers --input --data --batches --runtime {IMAGES} --samples --seed --skip-bad --min-snr "
    f"--on --workers {LOAD} --weights-under --html",
    "bisect": f"--output --input --data --batches --runtime {IMAGES} --samples --seed --skip-bad --min-snr {LOAD} "
    "--weights-under",
    "bench": "--input --runtime --threads --batches --shapes --warmUp --duration --iterations --openings --data "
    f"{IMAGES} --samples --seed --skip-bad --percentile --avgRuns --plot --exportTimes --on --workers "
    f"{LOAD} --weights-under --html",
    "report": "--output --onnx --weights-under",
    "prove": "--url --timeout --layers --trust --weights-under",
    "sign": "--key --signature",
    "verify": "--key --signature",
    "evaluate": f"--data --reference --labels-for {IMAGES} --metric --max-drop --min-snr --samples --seed --skip-bad "
    f"--on --workers --runtime --input {LOAD} --weights-under --html",
    "dialects": "",
    "plugins list": "",
    "plugins build": "--cuda --tensorrt --onnxruntime --arch --jobs",
    "plugins doctor": "--quick --trust",
}


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option("--width")]
    names: Annotated[list[str], typer.Option("--name")] = field(default_factory=list)
    tall: Annotated[bool, typer.Option("--tall")] = False

    def __post_init__(self) -> None:
        if self.width < 0:
            raise UsageError(f"--width {self.width}", "is negative", "give a size")


@dataclass(frozen=True)
class Colour:
    width: Annotated[float, typer.Option("--line-width")] = 0.5


def toy(got: dict[str, Any]) -> Callable[..., None]:
    @grouped
    def draw(
        context: typer.Context,
        names: Annotated[Path, typer.Argument()],
        *,
        before: Annotated[str, typer.Option("--before")] = "b",
        size: Size,
        colour: Colour,
        after: Annotated[bool, typer.Option("--after")] = False,
    ) -> None:
        got.update(context=context, names=names, before=before, size=size, colour=colour, after=after)

    return draw


def test_the_fields_stand_where_the_group_stands_in_their_order() -> None:
    command = get_command(_app_of(toy({})))
    options = [parameter.opts[0] for parameter in command.params]
    assert options[1:7] == ["--before", "--width", "--name", "--tall", "--line-width", "--after"]


def test_the_command_gets_its_groups_whole_and_no_field_is_taken_for_another() -> None:
    got: dict[str, Any] = {}
    words = ["file", "--width", "3", "--name", "a", "--name", "b", "--line-width", "2.5", "--after"]
    assert CliRunner().invoke(_app_of(toy(got)), words).exception is None
    assert (got["size"], got["colour"]) == (Size(3, ["a", "b"], False), Colour(2.5))
    assert (got["names"], got["before"], got["after"]) == (Path("file"), "b", True)
    assert got["context"].params["size__width"] == 3


def test_defaults_are_those_of_the_dataclass_and_no_list_is_shared() -> None:
    got: dict[str, Any] = {}
    for _ in range(2):
        assert CliRunner().invoke(_app_of(toy(got)), ["file", "--width", "1"]).exception is None
        assert (got["size"], got["colour"]) == (Size(1), Colour())
        got["size"].names.append("left over")


def test_a_field_without_default_is_required_and_a_group_refuses_in_its_own_words() -> None:
    missing = CliRunner().invoke(_app_of(toy({})), ["file"])
    assert "--width" in missing.output
    assert missing.exit_code
    refused = CliRunner().invoke(_app_of(toy({})), ["file", "--width", "-1"])
    assert str(refused.exception) == "--width -1: is negative; give a size"


@pytest.mark.parametrize("command", FLAGS)
def test_every_command_has_its_options_in_the_order_of_before(command: str) -> None:
    assert _flags(command) == [*FLAGS[command].split(), "--json", "--verbose", "--quiet", "--debug", "--help"]


def test_every_command_is_among_those_compared() -> None:
    assert {command.split()[0] for command in FLAGS} == set(COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("calibrate", "plugins")])
def test_a_command_is_written_with_few_parameters(name: str) -> None:
    command = getattr(import_module(f"normexport_cli.{name}"), name)
    assert len(inspect.signature(inspect.unwrap(command)).parameters) <= 10


def test_no_option_has_a_number_or_a_word_of_its_own_as_default() -> None:
    """It takes that of the library's config."""
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            given = [node.value] if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) != "PANEL" else []
            if isinstance(node, ast.FunctionDef) and any("grouped" in ast.unparse(d) for d in node.decorator_list):
                given = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
            own = [each for each in given if isinstance(each, ast.Constant) and type(each.value) in (int, float, str)]
            assert not own, f"{file.name}:{own[0].lineno}"


def _app_of(command: Callable[..., None]) -> typer.Typer:
    made = typer.Typer()
    made.command()(command)
    return made


def _flags(command: str) -> list[str]:
    found: Any = get_command(app)
    for word in command.split():
        found = found.commands[word]
    context = found.make_context("x", [], resilient_parsing=True)
    return [parameter.opts[0] for parameter in found.get_params(context) if parameter.opts[0].startswith("-")]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"precision": "fp16", "placement": "openvino"}, "means nothing with --precision fp16"),
        ({"precision": "fp8", "placement": "openvino"}, "it is for int8"),
        ({"precision": "int8", "placement": "cheap"}, "is not a placement"),
        ({"precision": "int8", "placement_plot": Path("a.svg")}, "which measures nothing"),
        ({"precision": "int8", "placement": "openvino", "placement_plot": Path("a.txt")}, "has no format"),
    ],
)
def test_a_placement_that_means_nothing_is_refused_before_any_work(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        PrecisionOptions(**given)
    assert words in str(refused.value)
