"""The modules: a drop-in for torch's, whose running statistics mean what their names say."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import normexport.nn
from normexport.errors import UsageError
from tests.nn.formulas import KINDS, TITLES, norm, stat

pytestmark = pytest.mark.slow

FAMILY = [(k, s, r) for k in KINDS for s in ("Batch", "Instance") for r in (1, 2, 3)]
BATCH = [(k, "Batch", 2) for k in KINDS]


def cls(kind: str, scope: str, rank: int) -> Any:
    return getattr(normexport.nn, f"{TITLES[kind]}{scope}Norm{rank}d")


def theirs(scope: str, rank: int) -> Any:
    return getattr(nn, f"{scope}Norm{rank}d")


def batch(*shape: int, seed: int = 0, offset: float = 3.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + offset


def trained(kind: str = "l1", **settings: Any) -> Any:
    module = cls(kind, "Batch", 2)(3, **settings)
    for seed in range(4):
        module(batch(6, 3, 4, 4, seed=seed))
    return module


@pytest.mark.parametrize(("kind", "scope", "rank"), FAMILY)
def test_every_class_is_importable_documented_and_takes_torchs_arguments(kind: str, scope: str, rank: int) -> None:
    ours, torchs = cls(kind, scope, rank), theirs(scope, rank)
    assert f"{ours.__module__}.{ours.__qualname__}" == f"normexport.nn.{scope.lower()}.{ours.__name__}"
    assert "stat = " in ours.__doc__
    assert ours.__name__ in normexport.nn.__all__
    positional = [
        [(p.name, p.default) for p in inspect.signature(each).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        for each in (ours, torchs)
    ]
    assert positional[0] == positional[1]


@pytest.mark.parametrize(("kind", "scope", "rank"), FAMILY)
def test_forward_in_training_is_the_formula(kind: str, scope: str, rank: int) -> None:
    shape = (5, 3, *(4, 3, 3)[:rank])
    x, module = batch(*shape), cls(kind, scope, rank)(3, eps=0.1, affine=True, **({"k": 2} if kind == "topk" else {}))
    with torch.no_grad():
        module.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        module.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    affine = module.weight.detach().numpy(), module.bias.detach().numpy()
    expected, _, _, budget = norm(kind, x, *affine, 0.1, scope == "Instance", k=2)
    assert (np.abs(module(x).detach().double().numpy() - expected) <= budget).all()


@pytest.mark.parametrize(
    "shape", [(3,), (4, 3), (4, 3, 2), (4, 3, 2, 2), (4, 3, 2, 2, 2), (4, 5, 6, 2, 2, 2), (4, 2, 7)]
)
@pytest.mark.parametrize(("scope", "rank"), [(s, r) for s in ("Batch", "Instance") for r in (1, 2, 3)])
def test_inputs_are_accepted_and_refused_as_torch_does(scope: str, rank: int, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    settings = {"affine": True}
    try:
        expected = theirs(scope, rank)(3, **settings)(x).shape
    except (ValueError, RuntimeError) as error:
        # torch's batch norm has a RuntimeError in other words for a wrong channel count.
        words = str(error).split("(")[0] if isinstance(error, ValueError) else "num_features"
        with pytest.raises(ValueError, match=words):
            cls("l1", scope, rank)(3, **settings)(x)
    else:
        assert cls("l1", scope, rank)(3, **settings)(x).shape == expected


@pytest.mark.parametrize(("scope", "shape"), [("Batch", (1, 3)), ("Instance", (4, 3, 1))])
def test_one_element_per_channel_is_refused_in_training_and_gives_bias_in_evaluation(
    scope: str, shape: tuple[int, ...]
) -> None:
    module = cls("l1", scope, 1)(3, affine=True, track_running_stats=False)
    with pytest.raises(ValueError, match="Expected more than 1"):
        module(torch.ones(shape))
    nn.init.constant_(module.bias, 4.0)
    assert (module.eval()(torch.ones(shape)) == 4).all()


def test_an_unaffine_instance_norm_warns_of_other_channels_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="2 channels, not num_features"):
        cls("l1", "Instance", 1)(3)(batch(4, 2, 5))


def test_instance_norms_take_unbatched_input() -> None:
    module = cls("linf", "Instance", 2)(3)
    x = batch(4, 3, 5, 5)
    for one, together in zip(x, module(x), strict=True):
        torch.testing.assert_close(module(one), together)


@pytest.mark.parametrize("kind", KINDS)
def test_running_statistics_follow_torchs_momentum(kind: str) -> None:
    module, mean, scale = trained(kind, momentum=0.3), np.zeros(3), np.ones(3)
    for seed in range(4):
        x = batch(6, 3, 4, 4, seed=seed).double().numpy()
        mean = 0.7 * mean + 0.3 * x.mean((0, 2, 3))
        scale = 0.7 * scale + 0.3 * np.array([stat(kind, x[:, c].reshape(-1)) for c in range(3)])
    np.testing.assert_allclose(module.running_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(module.running_scale, scale, rtol=1e-5)
    assert int(module.num_batches_tracked) == 4


def test_running_mean_is_bit_for_bit_torchs_convention() -> None:
    ours, torchs = trained("l2", momentum=0.25), nn.BatchNorm2d(3, momentum=0.25)
    for seed in range(4):
        torchs(batch(6, 3, 4, 4, seed=seed))
    torch.testing.assert_close(ours.running_mean, torchs.running_mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scope", ["Batch", "Instance"])
def test_momentum_none_averages_all_batches(scope: str) -> None:
    module = cls("l1", scope, 2)(3, momentum=None, track_running_stats=True)
    xs = [batch(6, 3, 4, 4, seed=seed).double().numpy() for seed in range(3)]
    for x in xs:
        module(torch.tensor(x, dtype=torch.float32))
    observed = [norm("l1", x, np.ones(3), np.zeros(3), 0, scope == "Instance")[1:3] for x in xs]
    mean, scale = (np.mean([o[i].reshape(-1, 3).mean(0) for o in observed], axis=0) for i in (0, 1))
    np.testing.assert_allclose(module.running_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(module.running_scale, scale, rtol=1e-5)


@pytest.mark.parametrize("scope", ["Batch", "Instance"])
@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_divides_by_running_scale_plus_eps(kind: str, scope: str) -> None:
    module = cls(kind, scope, 1)(2, eps=0.5, affine=True, track_running_stats=True).eval()
    state = {"weight": [2.0, 3.0], "bias": [1.0, -1.0], "running_mean": [10.0, 20.0], "running_scale": [1.5, 3.5]}
    module.load_state_dict({**{k: torch.tensor(v) for k, v in state.items()}, "num_batches_tracked": torch.tensor(7)})
    y = module(torch.tensor([[[14.0], [24.0]]]))
    assert y.flatten().tolist() == [2 * (14 - 10) / (1.5 + 0.5) + 1, 3 * (24 - 20) / (3.5 + 0.5) - 1]
    params = module.affine_params()
    np.testing.assert_array_equal(params.inv_scale, [0.5, 0.25])
    np.testing.assert_array_equal(params.coefficients(), [[1, 0.75], [-9, -16]])


def test_without_running_statistics_evaluation_uses_the_batch_and_has_no_affine_map() -> None:
    module = trained(track_running_stats=False).eval()
    x = batch(6, 3, 4, 4, offset=50.0)
    torch.testing.assert_close(module(x).mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    assert set(module.state_dict()) == {"weight", "bias"}
    with pytest.raises(UsageError, match="no running statistics"):
        module.affine_params()


def test_an_empty_batch_teaches_nothing() -> None:
    module = trained()
    before = copy.deepcopy(module.state_dict())
    assert module(torch.empty(0, 3, 4, 4)).shape == (0, 3, 4, 4)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_reset_brings_back_the_initial_state() -> None:
    module = trained()
    nn.init.constant_(module.weight, 5.0)
    module.reset_running_stats()
    assert (module.running_mean.tolist(), module.running_scale.tolist()) == ([0.0] * 3, [1.0] * 3)
    assert int(module.num_batches_tracked) == 0
    assert module.weight.tolist() == [5.0] * 3
    module.reset_parameters()
    assert (module.weight.tolist(), module.bias.tolist()) == ([1.0] * 3, [0.0] * 3)


def test_kind_parameters_are_keywords_of_their_kind_alone() -> None:
    assert (cls("topk", "Batch", 1)(4).k, cls("topk", "Batch", 1)(4, k=3).k) == (10, 3)
    assert (cls("range", "Batch", 1)(4).chunks, cls("range", "Instance", 1)(4, chunks=5).chunks) == (16, 5)
    with pytest.raises(TypeError, match="L1BatchNorm1d has no parameter 'k'"):
        cls("l1", "Batch", 1)(4, k=3)
    with pytest.raises(UsageError, match="k = 0"):
        cls("topk", "Batch", 1)(4, k=0)
    assert "k=3" in repr(cls("topk", "Batch", 1)(4, k=3))
    assert "correction=2.0" in repr(cls("l1", "Batch", 1)(4, correction=2.0))
    assert "k=" not in repr(cls("l1", "Batch", 1)(4))


@pytest.mark.parametrize("settings", [{"affine": False}, {"bias": False}])
def test_missing_affine_parameters_are_one_and_zero(settings: dict[str, Any]) -> None:
    module = trained(**settings)
    assert module.bias is None
    assert (module.weight is None) == ("affine" in settings)
    x = batch(6, 3, 4, 4)
    for mode in (module.train(), module.eval()):
        reference = cls("l1", "Batch", 2)(3).train(mode.training)
        reference.load_state_dict({**reference.state_dict(), **module.state_dict()})
        torch.testing.assert_close(mode(x), reference(x))


@pytest.mark.parametrize(("kind", "scope", "rank"), FAMILY)
def test_pickle_deepcopy_and_state_dict_round_trip(kind: str, scope: str, rank: int) -> None:
    settings = {"eps": 0.01, "affine": True, "track_running_stats": True, **({"k": 3} if kind == "topk" else {})}
    module = cls(kind, scope, rank)(3, momentum=0.4, **settings)
    x = batch(6, 3, *(4, 4, 4)[:rank])
    module(x)
    loaded = cls(kind, scope, rank)(3, **settings)
    loaded.load_state_dict(module.state_dict())
    for twin in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module), loaded):
        assert type(twin) is type(module)
        assert torch.equal(twin.eval()(x), module.eval()(x))


@pytest.mark.parametrize(("kind", "scope", "rank"), BATCH)
def test_state_dict_holds_version_kind_and_eps_through_a_safe_file(kind: str, scope: str, rank: int) -> None:
    file = io.BytesIO()
    torch.save(nn.Sequential(cls(kind, scope, rank)(3, eps=0.25)).state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state._metadata["0"] == {"version": 1, "kind": kind, "eps": 0.25}
    assert set(state) == {f"0.{n}" for n in ("weight", "bias", "running_mean", "running_scale", "num_batches_tracked")}


@pytest.mark.parametrize("strict", [True, False])
def test_a_torch_batchnorm_state_dict_is_refused_in_words(strict: bool) -> None:
    norm = cls("l1", "Batch", 2)(3)
    model = nn.Sequential(norm)
    with pytest.raises(RuntimeError, match=r"0: running_var is a variance .* use convert_norms"):
        model.load_state_dict(nn.Sequential(nn.BatchNorm2d(3)).state_dict(), strict=strict)
    assert norm.running_scale.tolist() == [1.0] * 3


def test_another_kinds_statistics_and_newer_versions_are_refused() -> None:
    state = trained("linf").state_dict()
    with pytest.raises(RuntimeError, match="of kind 'linf', and L1BatchNorm2d is 'l1'"):
        cls("l1", "Batch", 2)(3).load_state_dict(state, strict=False)
    state._metadata[""]["version"] = 2
    with pytest.raises(RuntimeError, match="newer version"):
        cls("linf", "Batch", 2)(3).load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_modules_change_type_as_a_whole(dtype: torch.dtype) -> None:
    module = trained().to(dtype).eval()
    assert {module.weight.dtype, module.running_mean.dtype, module.running_scale.dtype} == {dtype}
    assert module.num_batches_tracked.dtype == torch.long
    x = batch(6, 3, 4, 4).to(dtype)
    y = module(x)
    assert y.dtype == dtype
    params = module.affine_params()
    a, b = (each[:, None, None] for each in params.coefficients())
    np.testing.assert_allclose(y.detach().double(), a * x.double().numpy() + b, rtol=0, atol=8 * torch.finfo(dtype).eps)
    assert module.train()(x).dtype == dtype


def test_half_evaluation_survives_a_dead_channel() -> None:
    module = cls("l1", "Batch", 2)(3).half().eval()
    module.running_scale.zero_()  # 1 / (0 + 1e-5) is 1e5, beyond fp16's 65504
    assert module(torch.full((1, 3, 2, 2), 1e-4, dtype=torch.half)).flatten().tolist() == pytest.approx(
        [10] * 12, rel=1e-2
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_running_statistics_stay_float32_under_autocast(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), cls("l1", "Batch", 2)(3))
    with torch.autocast("cpu", dtype):
        y = model(batch(6, 3, 4, 4))
    assert y.dtype == dtype
    assert model[1].running_mean.dtype == model[1].running_scale.dtype == torch.float32
    y.float().square().sum().backward()
    assert model[1].weight.grad.dtype == torch.float32


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_training_module_compiles_whole(momentum: float | None) -> None:
    torch._dynamo.reset()
    ours, eager = (cls("topk", "Batch", 2)(3, momentum=momentum) for _ in range(2))
    compiled: Callable[..., torch.Tensor] = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        x = batch(6, 3, 4, 4, seed=seed)
        torch.testing.assert_close(compiled(x), eager(x))
    torch.testing.assert_close(ours.running_scale, eager.running_scale)


@pytest.mark.parametrize("scope", ["Batch", "Instance"])
def test_evaluation_exports_as_one_operator(scope: str) -> None:
    module = cls("l1", scope, 2)(3, affine=True, track_running_stats=scope == "Batch").eval()
    program = torch.export.export(module, (batch(2, 3, 4, 4),), dynamic_shapes=({0: torch.export.Dim("n")},))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    inverse = ["aten.add.Tensor", "aten.reciprocal.default"]  # of constants alone: the exporter computes them
    if scope == "Batch":
        assert names == [*inverse, "normexport.running_norm.default"]
    else:
        assert [name for name in names if "getitem" not in name] == ["normexport.live_norm.default"]
    x = batch(5, 3, 4, 4)
    torch.testing.assert_close(program.module()(x), module(x))
