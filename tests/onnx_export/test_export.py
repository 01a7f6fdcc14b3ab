"""The exported file: what it holds, that stock runtimes run it, and that its layer map tells the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from normexport import nn as nxn
from normexport import norms
from normexport.errors import ExportError, UsageError
from normexport.onnx_export import InputSpec, export, inputs_of_program, parse_inputs
from normexport.onnx_export.exported import Exported

pytestmark = pytest.mark.slow


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Running statistics and affine parameters that are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point() and value.dim() == 1:
            value.data = torch.rand(value.shape, generator=generator) + (0.5 if "running_" in name else -0.5)
    return model.eval()


class Conv1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv1d(3, 8, 3, padding=1), nxn.L1BatchNorm1d(8), nn.ReLU()
        self.fc, self.norm2 = nn.Linear(8, 4), nxn.LinfBatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm2(self.fc(self.relu(self.norm(self.conv(x))).mean(-1)))


class Conv3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(2, 4, 3), nxn.RangeBatchNorm3d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class TwoInTwoOut(nn.Module):
    """Two inputs (one integer), nested outputs, a ReLU called three times, live and weight norms."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv, self.relu = nn.Embedding(10, 4), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.norm, self.live = nxn.TopKBatchNorm2d(4, k=3), nxn.L1BatchNorm2d(4, track_running_stats=False)
        self.instance = nxn.LinfInstanceNorm2d(4, affine=True)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nxn.L2BatchNorm2d(4), self.relu)
        self.fc = nxn.bounded_weight_norm(nn.Linear(4, 5))

    def forward(self, image: torch.Tensor, token: torch.Tensor) -> dict[str, object]:
        x = self.relu(self.norm(self.conv(image)))
        x = self.block(self.relu(self.instance(self.live(x))))
        return {"logits": self.fc(x.mean((2, 3)) + self.embed(token).mean(1)), "maps": (x, image.sum(1))}


CASES = {
    "1d": (Conv1d, [InputSpec("x", (3, 12))]),
    "3d": (Conv3d, [InputSpec("x", (2, 5, 6, 4))]),
    "several": (TwoInTwoOut, [InputSpec("image", (3, 8, 8)), InputSpec("token", (6,), "int64")]),
}


def feeds_of(specs: list[InputSpec], batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch)
    return {
        spec.name: rng.integers(0, 10, spec.sized(batch))
        if spec.dtype == "int64"
        else rng.standard_normal(spec.sized(batch)).astype(np.float32)
        for spec in specs
    }


def flat(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    items = outputs.values() if isinstance(outputs, dict) else outputs
    return [tensor for item in items for tensor in flat(item)]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, list[InputSpec], Exported]:
    build, specs = CASES[request.param]
    torch.manual_seed(0)
    model = randomise(build())
    return model, specs, export(model, specs)


def test_file_passes_the_full_checker_at_opset_20_ir_10_with_used_bodies_only(
    case: tuple[nn.Module, list[InputSpec], Exported],
) -> None:
    _, _, exported = case
    proto = ir.serde.serialize_model(exported.model)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == 10
    assert {(o.domain, o.version) for o in proto.opset_import} == {("", 20), ("normexport", 1)}
    assert {f.name for f in proto.functions} == {n.op_type for n in proto.graph.node if n.domain == "normexport"}


def test_stock_runtimes_agree_with_torch_at_every_batch_size(case: tuple[nn.Module, list[InputSpec], Exported]) -> None:
    model, specs, exported = case
    proto = ir.serde.serialize_model(exported.model)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7):
        feeds = feeds_of(specs, batch)
        with torch.no_grad():
            want = flat(model(*[torch.from_numpy(feeds[spec.name]) for spec in specs]))
        for run in (session.run, ReferenceEvaluator(proto).run):
            got = run(None, feeds)
            assert len(got) == len(want)
            for mine, theirs in zip(got, want, strict=True):
                np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-4, rtol=1e-4)


def test_every_layer_tensor_is_what_a_forward_hook_sees(case: tuple[nn.Module, list[InputSpec], Exported]) -> None:
    model, specs, exported = case
    seen: dict[tuple[str, int], torch.Tensor] = {}
    calls: dict[str, int] = {}

    def remember(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if isinstance(output, torch.Tensor):
                seen[path, calls.get(path, 0)] = output
            calls[path] = calls.get(path, 0) + 1

        return hook

    # One name per module object, as hooks see it: the ReLU of the block is also the model's own.
    handles = [module.register_forward_hook(remember(path)) for path, module in model.named_modules() if path]
    feeds = feeds_of(specs, 3)
    with torch.no_grad():
        model(*[torch.from_numpy(feeds[spec.name]) for spec in specs])
    for handle in handles:
        handle.remove()
    observed = exported.model.clone()
    by_name = {value.name: value for node in observed.graph for value in node.outputs}
    layers = [layer for layer in exported.layers if (layer.path, layer.call) in seen]
    assert len(layers) >= len(
        [m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nxn.Norm))]
    )
    extra = [by_name[layer.tensor] for layer in layers if not by_name[layer.tensor].is_graph_output()]
    observed.graph.outputs.extend(dict.fromkeys(extra))
    values = ReferenceEvaluator(ir.serde.serialize_model(observed)).run(None, feeds)
    named = dict(zip([o.name for o in observed.graph.outputs], values, strict=True))
    for layer in layers:
        want = seen[layer.path, layer.call].numpy()
        np.testing.assert_allclose(named[layer.tensor], want, atol=1e-4, rtol=1e-4, err_msg=layer.path)


def test_norms_become_operators_of_the_right_kind() -> None:
    model = randomise(TwoInTwoOut())
    nodes = {n.op_type: n for n in export(model, CASES["several"][1]).model.graph if n.domain == "normexport"}
    assert set(nodes) == {"RunningNorm", "L1BatchNorm", "LinfInstanceNorm", "BoundedWeightNorm"}
    assert nodes["L1BatchNorm"].attributes.get_float("epsilon") == pytest.approx(1e-5)
    assert set(nodes["L1BatchNorm"].attributes) == {"epsilon", "correction"}
    kinds = [
        n.attributes.get_string("kind") for n in export(randomise(Conv1d()), CASES["1d"][1]).model.graph if n.domain
    ]
    assert kinds == ["l1", "linf"]


def test_half_precision_model_exports_with_float32_parameters_and_runs() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nxn.L1BatchNorm2d(4), nn.ReLU(), nxn.LinfBatchNorm2d(4, track_running_stats=False)
    )
    half = randomise(model).half()
    proto = ir.serde.serialize_model(export(half, [InputSpec("x", (3, 6, 6), "float16")]).model)
    onnx.checker.check_model(proto, full_check=True)
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float16)
    got = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    with torch.no_grad():
        want = half.double()(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(got, want, atol=2e-2)  # values of up to 1, roundings of 2^-11 divided by a range


def test_outputs_are_named_after_the_structure_and_batch_is_the_only_free_size() -> None:
    graph = export(randomise(TwoInTwoOut()), CASES["several"][1]).model.graph
    assert [o.name for o in graph.outputs] == ["logits", "maps_0", "maps_1"]
    assert [i.name for i in graph.inputs] == ["image", "token"]
    assert [str(size) for size in graph.inputs[0].shape] == ["batch", "3", "8", "8"]
    assert [str(size) for size in graph.outputs[1].shape] == ["batch", "4", "8", "8"]
    assert [o.name for o in export(randomise(Conv3d()), CASES["3d"][1]).model.graph.outputs] == ["output"]


def test_file_names_no_path_of_the_machine_that_made_it() -> None:
    data = ir.serde.serialize_model(export(randomise(Conv1d()), CASES["1d"][1]).model).SerializeToString()
    assert b"test_export.py" not in data
    assert b"site-packages" not in data


def test_program_exports_as_its_module_does(tmp_path: Path) -> None:
    model = randomise(Conv1d())
    program = torch.export.export(model, (torch.zeros(2, 3, 12),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "m.pt2")
    program = torch.export.load(tmp_path / "m.pt2")
    assert inputs_of_program(program) == (InputSpec("x", (3, 12)),)
    from_program, from_module = export(program), export(model, [InputSpec("x", (3, 12))])
    assert [n.op_type for n in from_program.model.graph] == [n.op_type for n in from_module.model.graph]
    assert from_program.layers == from_module.layers
    with pytest.raises(UsageError, match="which reads x=Nx3x12:float32"):
        export(program, [InputSpec("x", (3, 13))])


def test_shared_module_has_one_layer_per_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.relu(self.conv(x)))

    layers = export(Twice().eval(), [InputSpec("x", (3, 4, 4))]).layers
    assert [(layer.path, layer.call, layer.type) for layer in layers] == [
        ("conv", 0, "Conv2d"),
        ("relu", 0, "ReLU"),
        ("conv", 1, "Conv2d"),
    ]


def test_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ExportError, match="training mode"):
        export(Conv1d(), CASES["1d"][1])
    program = torch.export.export(Conv1d().train(), (torch.zeros(2, 3, 12),))
    with pytest.raises(ExportError, match="traced in training mode"):
        export(program)


def test_wrong_input_shape_is_one_line_naming_the_shape() -> None:
    with pytest.raises(UsageError, match=r"fails on x \[2, 4, 12\] float32") as caught:
        export(randomise(Conv1d()), [InputSpec("x", (4, 12))])
    assert "\n" not in str(caught.value)


class Ordered(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        return left - 2 * right if scale is None else scale * (left - 2 * right)


def test_inputs_named_like_parameters_bind_by_name_in_any_order() -> None:
    specs = [InputSpec("right", (3,)), InputSpec("left", (3,))]
    proto = ir.serde.serialize_model(export(Ordered().eval(), specs).model)
    feeds = {"left": np.ones((1, 3), np.float32), "right": np.full((1, 3), 5, np.float32)}
    (y,) = ReferenceEvaluator(proto).run(None, feeds)
    assert np.asarray(y).tolist() == [[-9, -9, -9]]
    free = [InputSpec("a", (3,)), InputSpec("b", (3,))]
    assert [i.name for i in export(Ordered().eval(), free).model.graph.inputs] == ["a", "b"]


def test_misspelt_or_missing_input_names_are_told() -> None:
    with pytest.raises(UsageError, match=r"--input rihgt: is no parameter of Ordered's forward\(left, right, scale\)"):
        export(Ordered().eval(), [InputSpec("left", (3,)), InputSpec("rihgt", (3,))])
    with pytest.raises(UsageError, match="--input scale: comes after right in Ordered's forward"):
        export(Ordered().eval(), [InputSpec("left", (3,)), InputSpec("scale", (3,))])


def test_data_dependent_control_flow_is_refused_in_one_line() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(ExportError, match="can't be traced") as caught:
        export(Branch().eval(), [InputSpec("x", (3,))])
    assert "\n" not in str(caught.value)


def test_missing_input_shape_asks_for_it() -> None:
    with pytest.raises(UsageError, match="--input 3x224x224"):
        export(Conv1d().eval())


@pytest.mark.parametrize(
    ("texts", "specs"),
    [
        (["3x28x28"], (InputSpec("input", (3, 28, 28)),)),
        (["ids=16:int64", "mask=16:bool"], (InputSpec("ids", (16,), "int64"), InputSpec("mask", (16,), "bool"))),
        (["3x4", "5"], (InputSpec("input_0", (3, 4)), InputSpec("input_1", (5,)))),
        (["t=scalar:int64[-1..5]"], (InputSpec("t", (), "int64", bounds=(-1, 5)),)),
        (["a=b=3:float16[0..1]"], (InputSpec("a=b", (3,), "float16", bounds=(0.0, 1.0)),)),
        (["serving:0=3x4:uint64"], (InputSpec("serving:0", (3, 4), "uint64"),)),
        (["t=scalar"], (InputSpec("t", ()),)),
    ],
)
def test_inputs_are_read_from_text(texts: list[str], specs: tuple[InputSpec, ...]) -> None:
    assert parse_inputs(texts) == specs


@pytest.mark.parametrize("texts", [["3,28,28"], [""], ["3x0x2"], ["x=3:float"], ["a=3", "a=4"], ["-1x3"]])
def test_malformed_input_text_is_a_usage_error(texts: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_inputs(texts)


def test_live_ops_of_the_registry_all_have_bodies() -> None:
    assert set(norms.live_ops()) < set(norms.functions())


def test_an_output_that_is_a_list_of_values_is_refused_in_words() -> None:
    """A program can hand on what unbind returns as one value; its structure of outputs names one leaf."""

    class Parts(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ops.aten.unbind_copy.int(x, 1)[0]

    program = torch.export.export(Parts(), (torch.ones(2, 3),))
    output = program.graph.output_node()
    output.args = ((next(node for node in program.graph.nodes if "unbind" in node.name),),)
    with pytest.raises(ExportError, match="returns 3 values, and its structure of outputs names 1"):
        export(program)
