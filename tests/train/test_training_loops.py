"""Our norms where training loops use torch.nn.BatchNorm: averaged weights, torch.func, checkpointing, fusing."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint

import normexport.nn as nxn
from normexport.errors import UsageError
from normexport.norms import AffineParams
from normexport.train import fuser_methods, update_norms
from tests.nn.formulas import KINDS, TITLES, stat
from tests.train.networks import convnet, loss_of, stripes

by_kind = pytest.mark.parametrize("kind", KINDS)


def batch_norm(kind: str, channels: int = 6, **options: Any) -> Any:
    return getattr(nxn, f"{TITLES[kind]}BatchNorm2d")(channels, **options)


def loader() -> list[Any]:
    x, labels = stripes()
    return [(x[:12], labels[:12]), [x[12:20], labels[12:20]], x[20:]]


@by_kind
def test_update_norms_takes_plain_averages_over_the_batches(kind: str) -> None:
    norm = batch_norm(kind, 2, momentum=0.3).double()
    model = nn.Sequential(norm, nn.Flatten()).eval()
    update_norms(loader(), model)
    batches = [(batch[0] if isinstance(batch, (tuple, list)) else batch).numpy() for batch in loader()]
    channels = [[batch[:, c].reshape(-1) for batch in batches] for c in range(2)]
    means = [np.mean([values.mean() for values in channel]) for channel in channels]
    scales = [np.mean([stat(kind, values) for values in channel]) for channel in channels]
    np.testing.assert_allclose(norm.running_mean.numpy(), means, rtol=1e-12)
    np.testing.assert_allclose(norm.running_scale.numpy(), scales, rtol=1e-12)
    assert (norm.momentum, norm.training, model.training) == (0.3, False, False)
    assert norm.num_batches_tracked == 3


def test_update_norms_does_to_batch_norms_what_pytorch_does() -> None:
    torch.manual_seed(0)
    one = convnet(nn.BatchNorm2d)
    other = copy.deepcopy(one)
    one[1].eval()  # one that was frozen
    update_norms(loader(), one, "cpu")
    update_bn(loader(), other)
    for name, value in other.state_dict().items():
        assert torch.equal(value, one.state_dict()[name]), name
    assert [each.training for each in one] == [True, False, *[True] * 7]


def test_statistics_of_an_averaged_model_fit_its_weights() -> None:
    torch.manual_seed(0)
    model = convnet(nxn.L1BatchNorm2d)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    averaged = AveragedModel(model)
    for _ in range(8):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
        averaged.update_parameters(model)
    update_norms([stripes()[0]], averaged)
    inside: Any = averaged.module
    copied = pickle.loads(pickle.dumps(averaged))
    cloned = copy.deepcopy(averaged)
    x = stripes()[0]
    training = copy.deepcopy(inside).train()(x)
    # One batch: in evaluation its running statistics are that batch's own.
    for each in (averaged, copied, cloned):
        torch.testing.assert_close(each.eval()(x), training, rtol=1e-10, atol=1e-10)


def test_without_batches_statistics_stay_and_it_is_told() -> None:
    norm = batch_norm("l1")
    norm.running_mean.fill_(3)
    with pytest.raises(UsageError, match="update_norms: the loader holds no batch"):
        update_norms([], norm)
    assert norm.running_mean.tolist() == [3.0] * 6
    assert norm.momentum == 0.1
    update_norms([], nn.ReLU())


def stateless(kind: str) -> Any:
    return batch_norm(kind, 3, track_running_stats=False).double()


def samples() -> Tensor:
    return torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@by_kind
def test_gradients_of_torch_func_are_those_of_autograd(kind: str) -> None:
    norm, x = stateless(kind), samples()
    parameters = {name: value.detach() for name, value in norm.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        y: Tensor = functional_call(norm, parameters, (x,))
        return (y * torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).sin()).sum()

    got = grad(loss, argnums=(0, 1))(parameters, x)
    leaf = x.clone().requires_grad_()
    loss(dict(norm.named_parameters()), leaf).backward()
    torch.testing.assert_close(got[1], leaf.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got[0]["weight"], norm.weight.grad, rtol=1e-9, atol=1e-9)
    one_by_one = torch.stack([grad(loss, argnums=1)(parameters, x[i : i + 2]) for i in range(3)])
    windows = torch.stack([x[i : i + 2] for i in range(3)])
    torch.testing.assert_close(vmap(grad(loss, argnums=1), (None, 0))(parameters, windows), one_by_one)


@by_kind
@pytest.mark.parametrize("train", [True, False])
def test_tangents_are_the_differences_and_never_zero_without_a_word(kind: str, train: bool) -> None:
    """An operator with a gradient of its own has no tangent in PyTorch: jvp gave zero."""
    norm = stateless(kind) if train else batch_norm(kind, 3).double().eval()
    x, direction = samples(), samples().flip(0)
    moved: Any = jvp(norm, (x,), (direction,))
    value, tangent = moved
    step = 1e-6
    difference = (norm(x + step * direction) - norm(x - step * direction)) / (2 * step)
    torch.testing.assert_close(value, norm(x))
    torch.testing.assert_close(tangent, difference, rtol=1e-6, atol=1e-6)
    with forward_ad.dual_level():
        dual = norm(forward_ad.make_dual(x, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, tangent)


@by_kind
def test_vmap_is_a_loop(kind: str) -> None:
    norm, x = stateless(kind), torch.randn(5, 2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(vmap(norm)(x), torch.stack([norm(each) for each in x]))


def outcome(make: Callable[[], Any]) -> str:
    try:
        make()
    except RuntimeError as error:
        return "refused" if "in-place" in str(error) or "updated in place" in str(error) else str(error)
    except UsageError as error:
        return "refused" if "one for all that vmap maps over" in str(error) else str(error)
    return "passes"


@by_kind
@pytest.mark.parametrize("train", [True, False])
def test_running_statistics_under_torch_func_are_refused_where_those_of_batch_norm_are(kind: str, train: bool) -> None:
    x = torch.randn(4, 2, 6, 3, 3)
    ours, theirs = (norm.train(train) for norm in (batch_norm(kind), nn.BatchNorm2d(6)))
    for call in (lambda norm: grad(lambda x: norm(x).sum())(x[0]), lambda norm: vmap(norm)(x)):
        met = [outcome(lambda norm=norm, call=call: call(norm)) for norm in (ours, theirs)]  # type: ignore[misc]  # mypy sees no type in a default
        assert met == ["refused" if train else "passes"] * 2


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("last", [True, False])
@by_kind
def test_checkpointing_moves_statistics_once(kind: str, last: bool, reentrant: bool) -> None:
    """PyTorch's own move twice: its forward runs twice."""
    norms: list[tuple[Any, int]] = [(batch_norm(kind), 1), (nn.BatchNorm2d(6), 2)]
    for norm, moves in norms:
        x = torch.randn(4, 6, 3, 3, requires_grad=True)
        rest = [] if last else [nn.Conv2d(6, 6, 3), nn.Sigmoid()]
        alone = copy.deepcopy(norm)
        y: Any = checkpoint(nn.Sequential(norm, *rest), x, use_reentrant=reentrant)
        y.square().sum().backward()
        assert norm.num_batches_tracked == moves
        got, x.grad = x.grad, None
        nn.Sequential(alone, *rest)(x).square().sum().backward()
        torch.testing.assert_close(x.grad, got)
        if moves == 1:
            assert torch.equal(norm.running_mean, alone.running_mean)
            assert torch.equal(norm.running_scale, alone.running_scale)


@by_kind
def test_a_norm_is_one_node_of_a_traced_graph(kind: str) -> None:
    title = TITLES[kind]
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), batch_norm(kind, 4), getattr(nxn, f"{title}InstanceNorm2d")(4),
        getattr(nxn, f"{title}GroupNorm")(2, 4), getattr(nxn, f"{title}LayerNorm")((5, 5)),
    )  # fmt: skip
    traced = fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0", "1", "2", "3", "4"]
    x = torch.randn(4, 3, 7, 7)
    other = copy.deepcopy(model)
    assert torch.equal(traced(x), other(x))
    assert traced.get_submodule("1").num_batches_tracked == 1
    with pytest.raises(ValueError, match="expected 4D input"):
        traced(torch.randn(3, 7, 7))


def test_torch_jit_script_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"L1BatchNorm2d: can't be compiled by torch.jit.script; trace") as caught:
        torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), batch_norm("l1", 4)))
    assert "\n" not in str(caught.value)
    norm = batch_norm("l1").eval()
    x = torch.randn(2, 6, 3, 3)
    assert torch.equal(torch.jit.trace(norm, x)(x), norm(x))


def trained(norm: Any, channels: int) -> Any:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean):
            value.copy_(torch.randn(channels, generator=generator))
        norm.running_scale.copy_(torch.rand(channels, generator=generator) + 0.1)
    return norm


def running(channels: int) -> Any:
    vectors = np.random.default_rng(0).normal(size=(4, channels))
    return nxn.RunningNorm(AffineParams(*vectors), "l1")


FUSED: dict[str, tuple[Callable[[], Any], Callable[[], Any], tuple[int, ...]]] = {
    "conv": (lambda: nn.Conv2d(3, 6, 3, groups=3), lambda: trained(nxn.L1BatchNorm2d(6), 6), (2, 3, 5, 5)),
    "no bias": (lambda: nn.Conv1d(3, 6, 3, bias=False), lambda: trained(nxn.LinfBatchNorm1d(6), 6), (2, 3, 5)),
    "three axes": (lambda: nn.Conv3d(3, 6, 2), lambda: trained(nxn.RangeBatchNorm3d(6), 6), (2, 3, 4, 4, 4)),
    "transposed": (
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), lambda: trained(nxn.TopKBatchNorm2d(6), 6), (2, 4, 5, 5),
    ),
    "linear": (lambda: nn.Linear(3, 6), lambda: trained(nxn.L2BatchNorm1d(6), 6), (2, 3)),
    "running": (lambda: nn.Conv2d(3, 6, 3), lambda: running(6), (2, 3, 5, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_pytorch_fuses_a_layer_with_its_norm(name: str) -> None:
    layer, norm, shape = FUSED[name]
    model = nn.Sequential(layer(), norm(), nn.ReLU()).eval()
    has_both = not isinstance(model[0], nn.ConvTranspose2d)  # PyTorch has no module of it and a ReLU
    parts = ["0", "1", "2"] if has_both else ["0", "1"]
    fused = torch.ao.quantization.fuse_modules(model, [parts], fuse_custom_config_dict=fuser_methods())
    assert isinstance(fused[1], nn.Identity)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double())
        torch.testing.assert_close(fused.double()(x.double()), expected, rtol=1e-5, atol=1e-5)


def test_what_does_not_fuse_is_refused_in_one_line() -> None:
    quantization: Any = torch.ao.quantization
    fuse, fuse_qat = quantization.fuse_modules, quantization.fuse_modules_qat
    own = {"fuse_custom_config_dict": fuser_methods()}
    model = nn.Sequential(nn.Conv2d(3, 6, 3), batch_norm("l1"))
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: fuse_qat(copy.deepcopy(model).train(), [["0", "1"]], **own), "can't be fused for training"),
        (lambda: fuse(copy.deepcopy(model).train(), [["0", "1"]], **own), "can't be fused for training"),
        (
            lambda: fuse(nn.Sequential(nn.Conv2d(3, 6, 3), stateless("l1").float()).eval(), [["0", "1"]], **own),
            "no running statistics",
        ),
        (
            lambda: fuse(nn.Sequential(nn.Conv2d(3, 6, 3), batch_norm("l1", 5)).eval(), [["0", "1"]], **own),
            "have 6 and 5 channels",
        ),
    ]
    for call, cause in cases:
        with pytest.raises(UsageError, match=cause) as caught:
            call()
        assert "\n" not in str(caught.value)
