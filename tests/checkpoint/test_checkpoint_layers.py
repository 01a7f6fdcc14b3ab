"""Pickled layers: each class is rebuilt as PyTorch does it, and numbers that its kernels can't take are refused."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

import normexport.nn as nxnn
from normexport.checkpoint import load
from normexport.checkpoint.pickles.layer_attributes import ATTRIBUTES
from normexport.checkpoint.pickles.rebuild_modules import module_classes
from normexport.checkpoint.pickles.unpickle import unpickle
from normexport.errors import CheckpointError
from tests.checkpoint.support import refused, save

#: Arguments that make one of every layer, by their names.
GIVEN = {
    "in_features": 2, "out_features": 3, "in_channels": 4, "out_channels": 4, "kernel_size": 3, "num_features": 4,
    "normalized_shape": 4, "num_groups": 2, "num_channels": 4, "size": 5, "embed_dim": 4, "num_heads": 2, "d_model": 4,
    "nhead": 2, "input_size": 2, "hidden_size": 3, "num_embeddings": 5, "embedding_dim": 3, "output_size": 2,
    "padding": 1, "groups": 2, "upscale_factor": 2, "downscale_factor": 2, "dim": 1, "unflattened_size": (2, 2),
    "in1_features": 2, "in2_features": 2, "threshold": 0.1, "value": 0.2, "norm_type": 2, "n_classes": 10,
    "cutoffs": [3, 6], "bias": True, "num_chunks": 4, "num_classes": 3, "axis": 0, "p": 2.0, "kind": "l1",
}  # fmt: skip
_ABSTRACT = ("RNNBase", "RNNCellBase", "NoneType")
LAYERS = [
    kind
    for kind in module_classes()
    if not issubclass(kind, LazyModuleMixin) and kind.__name__ not in _ABSTRACT and kind.__name__ != "Container"
]


def made(kind: type[nn.Module]) -> nn.Module:
    """One layer of a class."""
    if kind is nn.TransformerEncoder:
        return kind(nn.TransformerEncoderLayer(4, 2), 1)
    if kind is nn.TransformerDecoder:
        return kind(nn.TransformerDecoderLayer(4, 2), 1)
    if kind is nn.Transformer:
        return kind(4, 2, 1, 1, 8)
    if kind in (nn.LSTM, nn.GRU, nn.RNN):
        return kind(2, 3, 2, bidirectional=True)
    if kind is nn.DataParallel:
        return kind(nn.Linear(2, 2))
    if kind is nxnn.RunningNorm:
        return kind(nxnn.L1BatchNorm2d(3).affine_params(), "l1")
    if kind is nxnn.BoundedWeightNorm:
        return kind(torch.ones(1), 0, 2.0)
    needed = {
        name: GIVEN[name]
        for name, parameter in list(inspect.signature(kind.__init__).parameters.items())[1:]
        if parameter.default is parameter.empty and name in GIVEN
    }
    if kind.__name__.startswith("FractionalMaxPool"):
        needed["output_size"] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**needed)


def own(module: nn.Module) -> dict[str, Any]:
    """What a module has besides tables, and links to its weights that it makes itself."""
    skipped = ("_flat_weight_refs", "_flat_weights", "_parameters", "_buffers", "_modules", "device_ids")
    return {name: value for name, value in vars(module).items() if name not in skipped}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_layer_is_what_torch_load_makes(tmp_path: Path, kind: type[nn.Module]) -> None:
    file = save(tmp_path / "m.pt", made(kind))
    got, expected = unpickle(file, trust=False), torch.load(file, weights_only=False)
    assert [name for name, _ in got.named_modules()] == [name for name, _ in expected.named_modules()]
    for one, other in zip(got.modules(), expected.modules(), strict=True):
        assert type(one) is type(other)
        assert own(one) == own(other)
        assert list(one._parameters) == list(other._parameters)
    state, expected_state = got.state_dict(), expected.state_dict()
    assert list(state) == list(expected_state)
    assert all(torch.equal(state[key], expected_state[key]) for key in state)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_every_attribute_of_a_layer_is_known(kind: type[nn.Module]) -> None:
    """One that a new PyTorch adds would be left out, and its forward fail."""
    known = {*ATTRIBUTES, *vars(nn.Module()), "_keys", "bias_k", "bias_v", "options", "process_group"}
    made_by_torch = {"_flat_weights", "_flat_weight_refs", "_flat_weights_names", "_all_weights"}
    of_wrapper = {"device_ids", "output_device", "src_device_obj"}
    for module in made(kind).modules():
        assert set(vars(module)) <= known | made_by_torch | of_wrapper


def _without_stride(make: Callable[..., Any], **values: Any) -> nn.Module:
    module = make()
    for name, value in values.items():
        setattr(module, name, value)
    return module


@pytest.mark.parametrize(
    ("make", "values", "words"),
    [
        (lambda: nn.Conv2d(4, 4, 3), {"stride": (0, 0)}, "a Conv2d in it has stride = (0, 0)"),
        (lambda: nn.Conv2d(4, 4, 3), {"stride": (1,)}, "contradicts itself: stride has no 2 numbers"),
        (lambda: nn.Conv2d(4, 4, 3), {"stride": 1}, "contradicts itself: stride has no 2 numbers"),
        (lambda: nn.Conv2d(4, 4, 3), {"dilation": (0, 0)}, "has dilation = (0, 0)"),
        (lambda: nn.Conv2d(4, 4, 3), {"padding": (-1, 0)}, "padding is negative"),
        (lambda: nn.Conv2d(4, 4, 3), {"groups": 0}, "has groups = 0"),
        (lambda: nn.Conv2d(4, 4, 3), {"groups": 3}, "contradicts itself: 3 groups of 4 and 4 channels"),
        (lambda: nn.Conv2d(4, 4, 3), {"kernel_size": (10**9, 1)}, "has kernel_size = (1000000000, 1)"),
        (lambda: nn.Conv2d(4, 4, 3), {"kernel_size": (5, 5)}, "has a weight (4x4x3x3) that does not fit"),
        (lambda: nn.Conv2d(4, 4, 3), {"in_channels": 8}, "has a weight (4x4x3x3) that does not fit"),
        (lambda: nn.Conv2d(4, 4, 3), {"padding_mode": "__class__"}, "has padding_mode = '__class__'"),
        (lambda: nn.ConvTranspose2d(4, 4, 3), {"output_padding": (-1, -1)}, "has output_padding = (-1, -1)"),
        (lambda: nn.Linear(2, 3), {"out_features": 4}, "has a weight (3x2) that does not fit"),
        (lambda: nn.MaxPool2d(2), {"stride": 0}, "has stride = 0"),
        (lambda: nn.MaxPool2d(2), {"kernel_size": 0}, "has kernel_size = 0"),
        (lambda: nn.AvgPool2d(2), {"divisor_override": 0}, "has divisor_override = 0"),
        (lambda: nn.AdaptiveAvgPool2d(2), {"output_size": (10**9, 10**9)}, "has output_size = (1000000000"),
        (lambda: nn.GroupNorm(2, 4), {"num_groups": 0}, "has num_groups = 0"),
        (lambda: nn.GroupNorm(2, 4), {"num_groups": 3}, "3 groups of 4 channels"),
        (lambda: nn.ChannelShuffle(2), {"groups": 0}, "has groups = 0"),
        (lambda: nn.PixelShuffle(2), {"upscale_factor": 0}, "has upscale_factor = 0"),
        (lambda: nn.PixelUnshuffle(2), {"downscale_factor": 0}, "has downscale_factor = 0"),
        (lambda: nn.LocalResponseNorm(2), {"size": 0}, "has size = 0"),
        (lambda: nn.Upsample(scale_factor=2), {"scale_factor": 1e9}, "has scale_factor = 1000000000.0"),
        (lambda: nn.Upsample(scale_factor=2), {"scale_factor": float("nan")}, "has scale_factor = nan"),
        (lambda: nn.ConstantPad2d(1, 0.0), {"padding": (10**9,) * 4}, "has padding = (1000000000"),
        (lambda: nn.Unfold(2), {"stride": 0}, "has stride = 0"),
        (lambda: nn.Unflatten(1, (2, 2)), {"unflattened_size": (1 << 30, 1 << 30)}, "contradicts itself"),
        (lambda: nn.Embedding(3, 2), {"padding_idx": 7}, "contradicts itself: padding_idx is no row"),
        (lambda: nn.PReLU(3), {"num_parameters": 4}, "has a weight (3) that does not fit"),
        (lambda: nn.LayerNorm(4), {"normalized_shape": (5,)}, "has a weight (4) that does not fit"),
        (lambda: nn.LayerNorm(4), {"normalized_shape": ()}, "has normalized_shape = ()"),
        (lambda: nn.BatchNorm2d(3), {"num_features": 4}, "has a weight (3) that does not fit"),
        (lambda: nn.BatchNorm2d(3), {"eps": "1"}, "has eps = '1'"),
        (lambda: nn.BatchNorm2d(3), {"eps": float("nan")}, "has eps = nan"),
        (lambda: nn.BatchNorm2d(3), {"eps": None}, "contradicts itself: eps"),
        (lambda: nn.BatchNorm2d(3), {"running_mean": None}, "one of its running statistics is missing"),
        (lambda: nn.LSTM(2, 3), {"hidden_size": 4}, "that does not fit its other numbers"),
        (lambda: nn.LSTM(2, 3), {"mode": "GRU"}, "contradicts itself: mode"),
        (lambda: nn.LSTM(2, 3), {"num_layers": 0}, "has num_layers = 0"),
        (lambda: nn.MultiheadAttention(4, 2), {"num_heads": 4}, "contradicts itself: 4 heads of 2 in 4"),
        (lambda: nn.MultiheadAttention(4, 2), {"out_proj": None}, "its output projection"),
        (lambda: nxnn.TopKBatchNorm2d(3), {"k": 0}, "has k = 0"),
        (lambda: nxnn.TopKBatchNorm2d(3), {"k": 1.5}, "contradicts itself: its parameters"),
        (lambda: nxnn.RangeBatchNorm2d(3), {"chunks": 10**9}, "has chunks = 1000000000"),
        (lambda: made(nxnn.RunningNorm), {"kind": "os"}, "contradicts itself: kind"),
    ],
)  # fmt: skip
def test_numbers_that_kernels_can_not_take_are_refused(
    tmp_path: Path, make: Callable[..., Any], values: dict[str, Any], words: str
) -> None:
    """Some of them ended the process by a signal (an integer division by zero), some took all memory."""
    message = refused(save(tmp_path / "m.pt", nn.Sequential(_without_stride(make, **values))))
    assert words in message


@pytest.mark.parametrize("name", ["_modules", "_parameters", "_buffers", "training"])
def test_module_without_its_tables_is_refused(tmp_path: Path, name: str) -> None:
    net = nn.Linear(2, 2)
    del net.__dict__[name]
    words = "does not say whether it is in training" if name == "training" else f"a Linear in it has no {name}"
    assert words in refused(save(tmp_path / "m.pt", net))


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nxnn.L1BatchNorm2d])
@pytest.mark.parametrize("name", ["num_features", "eps", "momentum"])
def test_norm_without_its_numbers_is_refused(tmp_path: Path, kind: type[nn.Module], name: str) -> None:
    net = kind(3)
    del net.__dict__[name]
    assert f"lacks {name}" in refused(save(tmp_path / "m.pt", net))


@pytest.mark.parametrize("name", ["weight", "bias", "running_mean", "running_var"])
def test_norm_without_its_weights_is_refused(tmp_path: Path, name: str) -> None:
    net = nn.BatchNorm2d(3)
    del (net._parameters if name in net._parameters else net._buffers)[name]
    refused(save(tmp_path / "m.pt", net))


def test_lazy_layers_are_refused_in_words(tmp_path: Path) -> None:
    message = refused(save(tmp_path / "m.pt", nn.Sequential(nn.LazyLinear(2))))
    assert "holds layers that have no weights yet" in message
    assert "run the network once and save it again" in message


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_networks_are_refused_in_words(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net.qconfig = torch.ao.quantization.get_default_qconfig("x86")
    torch.ao.quantization.prepare(net, inplace=True)(torch.ones(1, 2))
    torch.ao.quantization.convert(net, inplace=True)
    assert "holds quantised layers (torch.ao.nn.quantized" in refused(save(tmp_path / "m.pt", net))
    state = {"w": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)}
    assert "w is quantised (qint8); give the float network" in refused(save(tmp_path / "m.pt", state))


def test_weights_on_meta_in_a_module_are_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        net = nn.Linear(2, 2)
    assert "weight of a Linear has a shape and no numbers (device meta)" in refused(save(tmp_path / "m.pt", net))


def test_modules_of_older_versions_get_what_they_lack(tmp_path: Path) -> None:
    """PyTorch before 1.5 knew no padding_mode table, before 1.8 no proj_size, before 2.0 fewer hooks."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LSTM(2, 3), nn.Upsample(scale_factor=2), nn.AvgPool3d(2))
    for module in net.modules():
        for name in ("_backward_pre_hooks", "_state_dict_pre_hooks", "_non_persistent_buffers_set",
                     "_load_state_dict_post_hooks", "_is_full_backward_hook"):  # fmt: skip
            vars(module).pop(name)
    del net[1].proj_size, net[2].recompute_scale_factor, net[3].count_include_pad
    file = save(tmp_path / "m.pt", net)
    got, expected = unpickle(file, trust=False), torch.load(file, weights_only=False)
    for one, other in zip(got.modules(), expected.modules(), strict=True):
        assert own(one) == own(other)


def test_attributes_that_no_layer_reads_stay_behind(tmp_path: Path) -> None:
    net: Any = nn.Sequential(nn.Linear(2, 2))
    net.classes, net.note = ["a", "b"], {"x": 1}
    got = unpickle(save(tmp_path / "m.pt", net), trust=False)
    assert not hasattr(got, "classes")
    assert torch.equal(got[0].weight, net[0].weight)


def test_a_part_called_like_an_attribute_of_its_layer_is_refused(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net.__dict__["bias"] = True
    assert "a Linear in it has two parts called bias" in refused(save(tmp_path / "m.pt", net))


def test_wrapper_without_its_network_is_refused(tmp_path: Path) -> None:
    net = nn.DataParallel(nn.Linear(2, 2))
    net._modules["module"] = None
    assert "contradicts itself: it wraps no network" in refused(save(tmp_path / "m.pt", net))
    assert load(save(tmp_path / "m.pt", nn.DataParallel(nn.Linear(2, 2)))).source == "module"


ODD: list[Any] = [torch.ones(2), torch.ones(()), (torch.ones(2),), {"a": 1}, {"weight"}, [1], 2.5, "weight", None]


@pytest.mark.parametrize("value", ODD, ids=[f"{type(each).__name__}{index}" for index, each in enumerate(ODD)])
def test_a_module_with_an_odd_field_is_read_or_refused_in_words(tmp_path: Path, value: Any) -> None:
    for name in sorted({*vars(nn.Linear(2, 2)), "track_running_stats", "padding_mode"}):
        net = nn.Linear(2, 2)
        vars(net)[name] = value
        torch.save(net, tmp_path / "m.pt")
        with contextlib.suppress(CheckpointError):  # anything else is a bug
            unpickle(tmp_path / "m.pt", trust=False)


def test_buffers_that_are_not_persistent_are_named_by_a_set(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    net._non_persistent_buffers_set = torch.ones(2)  # type: ignore[assignment]  # a hostile file's
    assert "a Linear in it lists buffers that it does not have" in refused(save(tmp_path / "m.pt", net))
