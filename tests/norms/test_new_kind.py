"""A kind that is registered has everything that the others have; only a compiled kernel is written by hand."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import normexport.nn
from normexport import norms
from normexport.checkpoint import load
from normexport.errors import MissingComponent
from normexport.folding import fold
from normexport.folding.integer_norms import absorb_norms
from normexport.norms import NormKind, Scope
from normexport.norms.bodies import attach_bodies
from normexport.norms.kind import Array
from normexport.norms.linf import LINF
from normexport.norms.own_bodies import require_own_bodies
from normexport.onnx_export import InputSpec, export
from normexport.plugins import norm_call
from normexport.runtime import Float64Runtime, OnnxRuntime
from normexport.runtime.ort_library import library_for
from tests.narrow import present

pytestmark = pytest.mark.slow

EPS = 1e-5
#: Classes of a kind that is registered here are known at run time alone.
nxn: Any = normexport.nn
NAMES = [f"Mid{scope}Norm{rank}d" for scope in ("Batch", "Instance") for rank in (1, 2, 3)]


def statistic(d: Array, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> Array:
    return (correction or 0.5) * np.abs(d).max(axis=1)


def torch_statistic(d: torch.Tensor, *, k: int = 0, chunks: int = 0, correction: float = 0.0) -> torch.Tensor:
    return d.abs().amax(-1) * (correction or 0.5)


MID = NormKind(
    name="mid",
    title="Mid",
    formula="max |d| / 2",
    statistic=statistic,
    integer_statistic=LINF.integer_statistic,
    factor=lambda n, chunks: 0.5,
    torch_statistic=torch_statistic,
    onnx_constant="own64 = Constant <value = double {0.5}>()  own = CastLike(own64, scale)",
    onnx_statistic="absolute = Abs(d)  raw = ReduceMax <keepdims = 1>(absolute, axes)  stat = Mul(constant, raw)",
    onnx_integer_statistic=LINF.onnx_integer_statistic,
)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with patch.dict(norms.KINDS, mid=MID):
        ops = {*norms.live_ops(), *norms.quantized_ops()}
        yield
    for op in ops - {*norms.live_ops(), *norms.quantized_ops()}:
        if onnx.defs.has(op, max_inclusive_version=norms.VERSION, domain=norms.DOMAIN):
            onnx.defs.deregister_schema(op, norms.VERSION, norms.DOMAIN)


def formula(x: np.ndarray, axes: tuple[int, ...], weight: Any = 1.0, bias: Any = 0.0, eps: float = EPS) -> np.ndarray:
    """weight * d / (max |d| / 2 + eps) + bias, float64."""
    x = np.asarray(x, np.float64)
    d = x - x.mean(axis=axes, keepdims=True)
    return weight * d / (np.abs(d).max(axis=axes, keepdims=True) / 2 + eps) + bias


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(np.float32)


def net(**how: Any) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nxn.MidBatchNorm2d(4, **how), nn.ReLU(), nn.Conv2d(4, 2, 1))


def trained(**how: Any) -> Any:
    model = net(**how)
    for seed in range(3):
        model(torch.from_numpy(images(5, 3, 8, 8, seed=seed)))
    return model.eval()


def mid_norm(op: str, inputs: Mapping[str, Any], epsilon: float) -> ir.Model:
    """x -> Q -> DQ -> norm -> Q -> DQ -> y."""
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["r"]),
        node(op, ["r", "scale", "bias"], ["n"], "norm", domain=norms.DOMAIN, epsilon=epsilon),
        node("QuantizeLinear", ["n", "s", "z"], ["p"]),
        node("DequantizeLinear", ["p", "s", "z"], ["y"]),
    ]
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in inputs.items()]
    shape: list[int | str] = ["N", 2, 6, 6]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, shape)], [value("y", 1, shape)], tensors)
    opsets = [onnx.helper.make_opsetid("", norms.OPSET), onnx.helper.make_opsetid(norms.DOMAIN, norms.VERSION)]
    model = ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=norms.IR_VERSION))
    attach_bodies(model)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_class_for_every_scope_and_rank(name: str) -> None:
    made = getattr(nxn, name)
    assert made is getattr(nxn, name)
    assert made.__name__ == made.__qualname__ == name
    assert "max |d| / 2" in made.__doc__
    assert name in dir(nxn)
    axes = (0,) if "Batch" in name else ()
    x = images(4, 3, *(6, 5, 3)[: made.ranks[-1] - 2])
    y = made(3)(torch.from_numpy(x))
    np.testing.assert_allclose(y.detach().numpy(), formula(x, (*axes, *range(2, x.ndim))), rtol=0, atol=2e-5)


def test_its_modules_train_and_their_gradients_are_right() -> None:
    for made in (nxn.MidBatchNorm2d, nxn.MidInstanceNorm2d):
        module = made(2, affine=True).double()
        x = torch.from_numpy(images(3, 2, 4, 4)).double().requires_grad_()
        assert torch.autograd.gradcheck(module, (x,))
        before = module.weight.detach().clone()
        optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
        (module(x) * x.detach()).sum().backward()
        optimiser.step()
        assert not torch.equal(module.weight, before)


def test_running_statistics_are_averages_of_the_formulas() -> None:
    module, (a, b) = nxn.MidBatchNorm2d(2, momentum=None), (images(3, 2, 4, 4, seed=s) for s in (1, 2))
    for x in (a, b):
        module(torch.from_numpy(x))
    observed = [np.abs(x - x.mean((0, 2, 3), keepdims=True)).max((0, 2, 3)) / 2 for x in (a, b)]
    np.testing.assert_allclose(module.running_scale.numpy(), np.mean(observed, axis=0), rtol=1e-6)


@pytest.mark.parametrize("name", ["MidBatchNorm2d", "MidInstanceNorm2d"])
def test_it_is_exported_with_a_body_that_stock_runtimes_compute(name: str) -> None:
    how = {"track_running_stats": False} if "Batch" in name else {"affine": True}
    module = getattr(nxn, name)(3, **how)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        module.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    model = export(nn.Sequential(module).eval(), [InputSpec("x", (3, 6, 5))]).model
    proto = ir.to_proto(model)
    norms.register_schemas()
    onnx.checker.check_model(proto, full_check=True)
    assert [function.name for function in proto.functions] == [name.removesuffix("2d")]
    require_own_bodies(model)
    weight, bias = (np.array(each)[:, None, None] for each in ([1.0, -2.0, 0.5], [0.0, 1.0, -1.0]))
    for batch in (1, 4):
        x = images(batch, 3, 6, 5, seed=batch)
        expected = formula(x, (0, 2, 3) if "Batch" in name else (2, 3), weight, bias)
        for runtime, atol in ((OnnxRuntime(model), 2e-5), (Float64Runtime(model), 1e-7)):
            (y,) = runtime.run({"x": x}).values()
            np.testing.assert_allclose(y.astype(np.float64), expected, rtol=0, atol=atol)


def test_a_body_that_is_not_its_own_is_refused() -> None:
    model = export(nn.Sequential(nxn.MidInstanceNorm2d(3)).eval(), [InputSpec("x", (3, 6, 5))]).model
    (function,) = model.functions.values()
    next(node for node in function if node.op_type == "ReduceMax").op_type = "ReduceMin"
    with pytest.raises(Exception, match="has a body that is not this operator's"):
        require_own_bodies(model)


def test_its_running_form_folds_away_and_computes_the_same() -> None:
    module = trained()
    exported = export(module, [InputSpec("x", (3, 8, 8))]).model
    result = fold(exported)
    assert [(each.kind, each.fate) for each in result.norms] == [("mid", "folded")]
    assert {node.op_type for node in result.model.graph} == {"Conv", "Relu"}
    x = images(4, 3, 8, 8, seed=9)
    with torch.no_grad():
        expected = module.double()(torch.from_numpy(x).double()).numpy()
    (y,) = Float64Runtime(result.model).run({"x": x}).values()
    np.testing.assert_allclose(
        y.astype(np.float64), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )  # weights are float32


def test_a_live_one_stays_and_its_outcome_says_its_kind() -> None:
    exported = export(net(track_running_stats=False).eval(), [InputSpec("x", (3, 8, 8))]).model
    assert [(each.kind, each.fate) for each in fold(exported).norms] == [("mid", "live")]


@pytest.mark.parametrize("scope", Scope)
def test_between_quantised_tensors_it_is_an_integer_operator(scope: Scope) -> None:
    own: dict[str, Any] = {"s": np.float32(0.05), "z": np.int8(3)}
    own |= {"scale": np.array([1, -2], np.float32), "bias": np.array([0.5, 0], np.float32)}
    model, outcomes = absorb_norms(mid_norm(MID.op(scope), own, 0.02))
    assert [each.reason for each in outcomes] == [""]
    attach_bodies(model)
    assert MID.quantized_op(scope) in {node.op_type for node in model.graph}
    x = images(3, 2, 6, 6)
    q = np.clip(np.rint(x / np.float32(0.05)) + 3, -128, 127)
    weight, bias = (own[name][:, None, None].astype(np.float64) for name in ("scale", "bias"))
    axes = {Scope.BATCH: (0, 2, 3), Scope.INSTANCE: (2, 3), Scope.GROUP: (1, 2, 3)}[scope]
    steps = formula((q - 3) * 0.05, axes, weight, bias, 0.02) / 0.05 + 3
    found = np.rint(OnnxRuntime(model).run({"x": x})["y"].astype(np.float64) / 0.05) + 3
    assert (np.abs(found - np.clip(steps, -128, 127)) <= 0.5 + 1e-3).all()


@pytest.mark.parametrize("instance_norms", [False, True])
def test_convert_norms_makes_it_out_of_torchs(instance_norms: bool) -> None:
    torch.manual_seed(1)
    old = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True)).eval()
    data = [torch.from_numpy(images(6, 3, 9, 9, seed=seed)) for seed in range(2)]
    new = nxn.convert_norms(old, "mid", data=data, instance_norms=instance_norms)
    assert type(new[1]) is nxn.MidBatchNorm2d
    assert isinstance(new[2], nxn.MidInstanceNorm2d if instance_norms else nn.InstanceNorm2d)
    observed = [np.asarray(old[0](x).detach(), np.float64) for x in data]
    expected = [np.abs(v - v.mean((0, 2, 3), keepdims=True)).max((0, 2, 3)) / 2 for v in observed]
    np.testing.assert_allclose(new[1].running_scale.numpy(), np.mean(expected, axis=0), rtol=1e-5)


def test_modules_and_state_dicts_survive_files() -> None:
    module = trained()
    again = pickle.loads(pickle.dumps(module))
    assert type(again[1]) is nxn.MidBatchNorm2d
    assert type(again[1]).__module__ == "normexport.nn.batch"
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    fresh: Any = net()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh[1].running_scale, module[1].running_scale)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nxn.L1BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(RuntimeError, match="kind 'mid', and L1BatchNorm2d is 'l1'"):
        other.load_state_dict(module.state_dict())


def test_a_checkpoint_of_it_loads_with_its_kind(tmp_path: Path) -> None:
    module = trained()
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    torch.save(module, tmp_path / "module.pt")
    x = torch.from_numpy(images(2, 3, 8, 8))
    for loaded in (load(tmp_path / "weights.pt", model=net()), load(tmp_path / "module.pt")):
        found = [(each.kind, each.dialect, each.statistics) for each in loaded.norms]
        assert found == [("mid", "normexport", "running")]
        assert torch.equal(present(loaded.model)(x), module(x))


def test_the_command_line_lists_it() -> None:
    from normexport_cli.app import app

    text = CliRunner().invoke(app, ["dialects"]).output
    assert all(name in text for name in ("mid", "MidBatchNorm", "MidInstanceNorm"))


def test_a_native_call_says_that_only_the_kernel_is_lacking() -> None:
    x, one = images(2, 3, 4), np.ones(3, np.float32)
    with pytest.raises(MissingComponent) as caught:
        norm_call.norm("mid", x, one, one)
    assert str(caught.value).startswith("kind 'mid': has no compiled kernel; compute it by its module")


def test_the_library_of_compiled_kernels_is_not_loaded_for_it() -> None:
    model = export(nn.Sequential(nxn.MidInstanceNorm2d(3)).eval(), [InputSpec("x", (3, 6, 5))]).model
    assert library_for(model) is None
    assert {"MidBatchNorm", "QMidBatchNorm"}.isdisjoint(norms.native_ops())


def test_a_parameter_that_no_operator_passes_on_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'mid': nothing passes alpha on, only k, chunks"):
        replace(MID, parameters={"alpha": 3})


def test_a_kind_with_a_parameter_gets_it_in_modules_and_operators() -> None:
    share = replace(
        MID, name="share", title="Share", parameters={"k": 3},
        torch_statistic=lambda d, *, k=0, chunks=0, correction=0.0: d.abs().amax(-1) / k,
    )  # fmt: skip
    with patch.dict(norms.KINDS, share=share):
        assert nxn.ShareBatchNorm2d(2).k == 3
        x = images(4, 2, 5, 5)
        got = nxn.ShareBatchNorm2d(2, k=2)(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(got, formula(x, (0, 2, 3)), rtol=0, atol=2e-5)
        assert "k=2" in repr(nxn.ShareBatchNorm2d(2, k=2))
        with pytest.raises(TypeError, match="ShareBatchNorm2d has no parameter 'chunks'"):
            nxn.ShareBatchNorm2d(2, chunks=4)
        assert {each.name for each in norms.functions()["ShareBatchNorm"].attribute_proto} == {
            *("epsilon", "correction", "k")
        }


def test_a_kind_that_is_taken_out_leaves_nothing() -> None:
    made = nxn.MidBatchNorm2d
    del norms.KINDS["mid"]
    for names in (norms.live_ops(), norms.quantized_ops(), norms.functions(), dir(nxn)):
        assert not [name for name in names if "Mid" in name]
    with pytest.raises(AttributeError, match="has no attribute 'MidBatchNorm2d'"):
        _ = nxn.MidBatchNorm2d
    norms.KINDS["mid"] = MID
    assert nxn.MidBatchNorm2d is made
