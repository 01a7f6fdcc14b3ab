"""Group and layer norms as modules: against loops in numpy, torch's own, finite differences, and after an export."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import normexport
import normexport.nn as nxn
from normexport import norms
from normexport.checkpoint import load
from normexport.errors import UsageError
from normexport.io.onnx_model import open_onnx
from normexport.nn.ops import live_norm
from normexport.onnx_export import InputSpec, export
from normexport.runtime import Float64Runtime, OnnxRuntime
from tests.narrow import present
from tests.nn.formulas import KINDS, TITLES
from tests.norms.witness import normalised

pytestmark = pytest.mark.slow


def made(kind: str, name: str, *arguments: Any, **options: Any) -> Any:
    """A module with weights of its own."""
    module = getattr(nxn, f"{TITLES[kind]}{name}")(*arguments, **options)
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return (torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 + 1).to(dtype)


def numbers(tensor: torch.Tensor | None, size: int, otherwise: float) -> np.ndarray:
    return np.full(size, otherwise) if tensor is None else tensor.detach().double().numpy().reshape(-1)


def expected(module: Any, x: torch.Tensor, rows: tuple[int, ...], groups: int) -> np.ndarray:
    """The formula on x laid out as `rows`, (N, C, *)."""
    weight, bias = numbers(module.weight, rows[1], 1), numbers(module.bias, rows[1], 0)
    own = {name: getattr(module, name) for name in norms.kind(module.kind).parameters}
    values = x.detach().double().numpy().reshape(rows)
    return normalised(module.kind, values, weight, bias, groups, epsilon=module.eps, **own).reshape(x.shape)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("groups", "shape"), [(1, (2, 6, 5)), (3, (1, 6, 4, 3)), (2, (3, 24)), (6, (2, 6, 2, 3, 4))])
def test_a_group_norm_is_the_formula_in_training_and_in_evaluation(
    kind: str, groups: int, shape: tuple[int, ...]
) -> None:
    module, x = made(kind, "GroupNorm", groups, shape[1], eps=0.01).double(), images(*shape)
    wanted = expected(module, x, shape, groups)
    for mode in (module.train(), module.eval()):
        np.testing.assert_allclose(mode(x).detach().numpy(), wanted, rtol=1e-10, atol=1e-10)
    single = module.float()(x.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach().numpy(), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("shape", "last"), [((4, 20), 20), ((2, 3, 5, 4), (5, 4)), ((6, 2, 8), (6, 2, 8)), ((2, 1, 12), [12])]
)
def test_a_layer_norm_is_the_formula_along_the_last_axes(kind: str, shape: tuple[int, ...], last: Any) -> None:
    module, x = made(kind, "LayerNorm", last, eps=0.01).double(), images(*shape)
    length = math.prod(module.normalized_shape)
    wanted = expected(module, x, (x.numel() // length, length), 1)
    np.testing.assert_allclose(module(x).detach().numpy(), wanted, rtol=1e-10, atol=1e-10)
    assert module.weight.shape == module.bias.shape == module.normalized_shape


def test_of_l2_they_are_torchs_own() -> None:
    x = images(3, 6, 4, 5)
    for ours, theirs in (
        (nxn.L2GroupNorm(2, 6, eps=0), nn.GroupNorm(2, 6, eps=1e-30)),
        (nxn.L2LayerNorm([4, 5], eps=0), nn.LayerNorm([4, 5], eps=1e-30)),
        (nxn.L2LayerNorm(5, 0, False), nn.LayerNorm(5, 1e-30, elementwise_affine=False)),
        (nxn.L2LayerNorm(5, 0, True, False), nn.LayerNorm(5, 1e-30, bias=False)),
    ):
        torch.testing.assert_close(ours.double()(x), theirs.double()(x), rtol=1e-12, atol=1e-12)
        assert {name: each.shape for name, each in ours.state_dict().items()} == {
            name: each.shape for name, each in theirs.state_dict().items()
        }


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_second_gradients_match_finite_differences(kind: str) -> None:
    group, layer = made(kind, "GroupNorm", 2, 4, eps=0.1).double(), made(kind, "LayerNorm", (2, 12), eps=0.1).double()
    for module, shape in ((group, (2, 4, 5)), (layer, (2, 2, 12))):
        x = images(*shape).requires_grad_()
        own = dict(module.named_parameters())

        def call(x: torch.Tensor, *values: torch.Tensor, module: Any = module, names: Any = tuple(own)) -> torch.Tensor:
            result: torch.Tensor = torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))
            return result

        inputs = (x, *(each.detach().requires_grad_() for each in own.values()))
        assert torch.autograd.gradcheck(call, inputs)
        assert torch.autograd.gradgradcheck(call, inputs)


def test_the_operator_with_groups_keeps_what_torch_asks_of_operators() -> None:
    x, scale, bias = images(2, 6, 4), images(6), images(6)
    how = ("topk", False, 1e-3, 0.0, 3, 4, 3)
    tensors = [each.requires_grad_() for each in (x, scale, bias)]
    torch.library.opcheck(live_norm, (*tensors, *how))
    mean, stat = live_norm(x, scale, bias, *how)[1:]
    assert mean.shape == stat.shape == (2, 3)
    np.testing.assert_allclose(mean.detach().numpy(), x.detach().numpy().reshape(2, 3, -1).mean(-1), rtol=1e-12)
    empty = live_norm(x[:0], scale, bias, *how)
    assert [tuple(each.shape) for each in empty] == [(0, 6, 4), (0, 3), (0, 3)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dynamic", [True, False])
def test_exports_are_one_operator_with_its_groups_and_compute_the_same(kind: str, dynamic: bool) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 1), made(kind, "GroupNorm", 2, 6), nn.ReLU(), made(kind, "LayerNorm", (5, 4)), nn.Flatten()
    ).eval()
    spec = InputSpec("x", (3, 5, 4)) if dynamic else InputSpec("x", (2, 3, 5, 4), batched=False)
    model = export(net, [spec]).model
    norms.register_schemas()
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    found = [node for node in model.graph if node.domain == norms.DOMAIN]
    assert [(node.op_type, node.attributes.get_int("num_groups")) for node in found] == [
        (f"{TITLES[kind]}GroupNorm", 2),
        (f"{TITLES[kind]}GroupNorm", 1),
    ]
    for batch in (2, 5, 1) if dynamic else (2,):
        x = images(batch, 3, 5, 4, seed=batch, dtype=torch.float32)
        with torch.no_grad():
            wanted = copy.deepcopy(net).double()(x.double()).numpy()
        for runtime, close in ((OnnxRuntime(model, native=False), 2e-5), (Float64Runtime(model), 1e-7)):
            (y,) = runtime.run({"x": x.numpy()}).values()
            np.testing.assert_allclose(y.astype(np.float64), wanted, rtol=0, atol=close * np.abs(wanted).max())


def test_an_empty_batch_comes_through_the_module_and_its_export() -> None:
    net = nn.Sequential(nxn.L1LayerNorm(4), nxn.L1GroupNorm(3, 6)).eval()
    assert net(torch.zeros(0, 6, 4)).shape == (0, 6, 4)
    model = export(net, [InputSpec("x", (6, 4))]).model
    (y,) = OnnxRuntime(model).run({"x": np.zeros((0, 6, 4), np.float32)}).values()
    assert y.shape == (0, 6, 4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="6 channels can't be shared out among num_groups = 4"):
        nxn.L1GroupNorm(4, 6)
    with pytest.raises(UsageError, match="num_groups = 0"):
        nxn.L1GroupNorm(0, 6)
    with pytest.raises(ValueError, match="num_features"):
        nxn.L1GroupNorm(3, 6)(torch.zeros(2, 5, 3))
    with pytest.raises(ValueError, match="at least 2D"):
        nxn.L1GroupNorm(3, 6)(torch.zeros(6))
    with pytest.raises(ValueError, match=r"expected input \(\*, 3, 4\), got \(3, 5\)"):
        nxn.L1LayerNorm((3, 4))(torch.zeros(3, 5))
    with pytest.raises(UsageError, match="of an instance norm"):
        live_norm(torch.zeros(2, 6, 3), torch.ones(6), torch.ones(6), "l1", True, 1e-5, 0.0, 1, 1, 2)
    with pytest.raises(UsageError, match="5 largest of the 4 elements"):
        nxn.TopKGroupNorm(3, 6, k=5)(torch.zeros(2, 6, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_one_value_per_statistic_is_refused_in_training_and_gives_bias_in_evaluation(kind: str) -> None:
    options = {"k": 1} if kind == "topk" else {}
    for module, shape in (
        (made(kind, "GroupNorm", 4, 4, **options), (3, 4)),
        (made(kind, "LayerNorm", 1, **options), (5, 1)),
    ):
        with pytest.raises(ValueError, match="Expected more than 1 value per group when training"):
            module.train()(torch.ones(shape))
        y = module.eval()(torch.full(shape, 7.0))
        torch.testing.assert_close(y, module.bias.detach().expand(shape), rtol=0, atol=0)


def test_modules_survive_files_and_are_recorded(tmp_path: Path) -> None:
    net = nn.Sequential(made("topk", "GroupNorm", 2, 4, k=3), made("l1", "LayerNorm", (3, 5), bias=False)).eval()
    x = images(2, 4, 3, 5, dtype=torch.float32)
    torch.save(net, tmp_path / "module.pt")
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    fresh = nn.Sequential(nxn.TopKGroupNorm(2, 4, k=3), nxn.L1LayerNorm((3, 5), bias=False))
    program = torch.export.export(net, (x,))
    torch.export.save(program, tmp_path / "program.pt2")
    for loaded in (load(tmp_path / "module.pt"), load(tmp_path / "weights.pt", model=fresh)):
        assert [(each.kind, each.statistics) for each in loaded.norms] == [("topk", "group"), ("l1", "group")]
        assert torch.equal(present(loaded.model)(x), net(x))
    records = load(tmp_path / "program.pt2").norms
    assert [(each.kind, each.statistics, each.channels) for each in records] == [
        ("topk", "group", 4),
        ("l1", "group", 15),
    ]
    again = pickle.loads(pickle.dumps(net))
    assert torch.equal(again(x), net(x))
    assert "2, 4, eps=1e-05, affine=True, bias=True, k=3" in repr(net)
    assert "(3, 5), eps=1e-05, affine=True, bias=False" in repr(net)


@pytest.mark.parametrize(("name", "value"), [("num_groups", 3), ("num_groups", 0), ("num_features", 6)])
def test_a_pickled_module_that_contradicts_itself_is_refused(tmp_path: Path, name: str, value: int) -> None:
    module = nxn.L1GroupNorm(2, 4).eval()
    module.__dict__[name] = value
    torch.save(nn.Sequential(module), tmp_path / "m.pt")
    with pytest.raises(Exception, match=r"m\.pt: .*(groups|weight)"):
        load(tmp_path / "m.pt")


def test_a_network_of_them_converts_to_float16_and_to_integer_norms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nxn.L1GroupNorm(2, 8),
        nn.ReLU(),
        nn.Conv2d(8, 4, 3),
        nn.Flatten(),
        nxn.RangeLayerNorm(4 * 16),
        nn.Linear(4 * 16, 10),
    ).eval()
    torch.save(net, tmp_path / "net.pt")
    for name, seed in (("calibration", 0), ("held out", 1)):
        np.savez(
            tmp_path / f"{name}.npz", input=np.random.default_rng(seed).normal(0, 1, (32, 3, 6, 6)).astype(np.float32)
        )
    for precision in (None, normexport.Half(), normexport.Int8(tmp_path / "calibration.npz")):
        config = normexport.ConvertConfig(precision=precision, data=tmp_path / "held out.npz")
        result = normexport.convert(tmp_path / "net.pt", tmp_path / "out", inputs=["3x6x6"], config=config)
        assert result.judgement.verdict is not normexport.Verdict.FAILED, result.judgement.reasons
        x = np.load(tmp_path / "held out.npz")["input"]
        with torch.no_grad():
            wanted = copy.deepcopy(net).double()(torch.from_numpy(x).double()).numpy()
        made = open_onnx(tmp_path / "out" / "model.onnx")
        ours = [node.op_type for node in made.graph if node.domain == norms.DOMAIN]
        prefix = "Q" if isinstance(precision, normexport.Int8) else ""
        assert ours == [f"{prefix}L1GroupNorm", f"{prefix}RangeGroupNorm"]
        (y,) = OnnxRuntime(made).run({"input": x}).values()
        error = np.sqrt(np.mean(np.square(y - wanted)) / np.mean(np.square(wanted)))
        assert error < {"": 0.005, "Q": 0.1}[prefix]
