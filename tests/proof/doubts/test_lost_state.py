"""Numbers that a forward reads and no state_dict holds are named; those that do not matter are left alone."""

from __future__ import annotations

import random
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from normexport import convert, export, load
from normexport.checkpoint.loose import loose_numbers, same_number, set_number
from normexport.checkpoint.records import Checkpoint
from normexport.errors import CheckpointError
from normexport.onnx_export import InputSpec
from normexport.proof.doubts.lost_state import require_no_lost_state

INPUTS = (InputSpec("input", (4,)),)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.start()

    def start(self) -> None:
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class PlainMean(Net):
    def start(self) -> None:
        self.mean = torch.zeros(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.fc(x - self.mean)


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), PlainMean())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class NoisyAtTimes(Net):
    """Two of its first runs are alike, as those of a model with a little noise are now and then."""

    runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        NoisyAtTimes.runs += 1
        return self.fc(x) * (1 + 1e-4 * (NoisyAtTimes.runs // 3))


class NotPersistent(Net):
    mean: torch.Tensor

    def start(self) -> None:
        self.register_buffer("mean", torch.zeros(4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.lerp_(x.mean(0), 0.1)
        return self.fc(x - self.mean)


class Temperature(Net):
    def start(self) -> None:
        self.temperature = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.temperature *= 0.99 if self.training else 1.0
        return self.fc(x) / self.temperature


class Steps(Net):
    def start(self) -> None:
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        return self.fc(x) * (1 + self.steps)


class Recent(Net):
    def start(self) -> None:
        self.recent = deque([1.0, 1.0], maxlen=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.recent.append(float(x.abs().mean()))
        return self.fc(x) * sum(self.recent)


class InNumpy(Net):
    def start(self) -> None:
        self.scale = np.ones(4, np.float32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.scale = self.scale * (0.9 if self.training else 1)
        return self.fc(x) * torch.from_numpy(self.scale)


class Holder:
    def __init__(self) -> None:
        self.mean = torch.zeros(4)


class InAnObject(Net):
    def start(self) -> None:
        self.holder = Holder()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.holder.mean = 0.9 * self.holder.mean + 0.1 * x.mean(0)
        return self.fc(x - self.holder.mean)


class Features(Net):
    """Random Fourier features in an attribute that is no buffer."""

    def start(self) -> None:
        self.directions = torch.randn(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc((x @ self.directions).sin())


class Shuffled(Net):
    def start(self) -> None:
        self.order = torch.randperm(64)[:4].remainder(4).tolist()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x[:, self.order])


class Listed(Net):
    """A layer in a plain list is part of no state_dict."""

    def start(self) -> None:
        self.layers = [nn.Linear(4, 4)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[0](self.fc(x))


class Stale(Net):
    """Computed once from weights that loading replaces."""

    def start(self) -> None:
        self.size = self.fc.weight.detach().norm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) / self.size


class Shared(Net):
    everybodys = torch.zeros(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            Shared.everybodys = 0.9 * Shared.everybodys + 0.1 * x.mean(0)
        return self.fc(x - Shared.everybodys)


LOST = {
    PlainMean: "mean: is changed by training",
    Inner: "body.1.mean: is changed by training",
    NotPersistent: "mean: is changed by training",
    Temperature: "temperature: is changed by training",
    Steps: "steps: is changed by training",
    Recent: "recent: is changed by training",
    InNumpy: "scale: is changed by training",
    InAnObject: "holder.mean: is changed by training",
    Features: "directions: is drawn at random by the factory",
    Shuffled: "order: is drawn at random by the factory",
    Listed: "layers.0.weight: is drawn at random by the factory",
    Stale: "size: is drawn at random by the factory",
    Shared: "the model: is changed by training beyond its parameters and buffers",
}


class Positions(Net):
    positions: torch.Tensor

    def start(self) -> None:
        self.register_buffer("positions", torch.arange(4.0), persistent=False)
        self.table = torch.eye(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x @ self.table + self.positions)


class Logs(Net):
    """Notes of its training that its forward does not read."""

    def start(self) -> None:
        self.last, self.steps, self.made, self.tag = torch.zeros(()), 0, time.time(), random.random()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.last, self.steps = x.mean(), self.steps + 1
        return self.fc(x)


class Hooked(Net):
    def start(self) -> None:
        torch.nn.utils.weight_norm(self.fc)


class Pruned(Net):
    def start(self) -> None:
        prune.l1_unstructured(self.fc, "weight", amount=0.5)


class Spectral(Net):
    def start(self) -> None:
        torch.nn.utils.spectral_norm(self.fc)


class Alias(Net):
    def start(self) -> None:
        self.weight = self.fc.weight.detach()
        self.layers = [self.fc]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.t() + self.layers[0].bias


class Usual(Net):
    def start(self) -> None:
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(self.fc(x)))


def loaded(kind: type[nn.Module], tmp_path: Path) -> Checkpoint:
    torch.save(kind().state_dict(), tmp_path / "net.pt")
    return load(tmp_path / "net.pt", model=kind)


@pytest.mark.parametrize("kind", LOST)
def test_what_the_forward_reads_and_the_file_lacks_is_named(kind: type[nn.Module], tmp_path: Path) -> None:
    checkpoint = loaded(kind, tmp_path)
    with pytest.raises(CheckpointError) as caught:
        require_no_lost_state(checkpoint, INPUTS)
    assert LOST[kind] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Positions, Logs, Hooked, Pruned, Spectral, Alias, Usual])
def test_constants_notes_and_what_hooks_compute_anew_are_left_alone(kind: type[Net], tmp_path: Path) -> None:
    checkpoint = loaded(kind, tmp_path)
    before = {name: value.clone() for name, value in checkpoint.model.state_dict().items()}
    require_no_lost_state(checkpoint, INPUTS)
    assert all(torch.equal(value, before[name]) for name, value in checkpoint.model.state_dict().items())
    assert not checkpoint.model.training


@pytest.mark.slow
def test_noise_that_looks_like_rounding_once_is_not_called_lost(tmp_path: Path) -> None:
    checkpoint = loaded(NoisyAtTimes, tmp_path)
    NoisyAtTimes.runs = 0
    require_no_lost_state(checkpoint, INPUTS)
    assert NoisyAtTimes.runs > 2


def test_verbs_refuse_it_and_write_nothing(tmp_path: Path) -> None:
    checkpoint = loaded(PlainMean, tmp_path)
    for verb in (
        lambda: convert(checkpoint, tmp_path / "out", ["4"]),
        lambda: export(checkpoint, ["4"], tmp_path / "o.onnx"),
    ):
        with pytest.raises(CheckpointError, match="mean: is changed by training"):
            verb()
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


def test_a_whole_module_holds_its_attributes(tmp_path: Path) -> None:
    net = PlainMean()
    net.train()(torch.ones(3, 4))
    torch.save(net, tmp_path / "net.pt")
    checkpoint = load(tmp_path / "net.pt", trust=True)
    require_no_lost_state(checkpoint, INPUTS)
    mean = checkpoint.model.mean
    assert isinstance(mean, torch.Tensor)
    assert torch.equal(mean, net.mean)


def test_numbers_are_found_set_and_compared_by_path() -> None:
    net = Inner()
    assert list(loose_numbers(net, own_classes=True)) == ["body.1.mean"]
    set_number(net, "body.1.mean", torch.ones(4))
    assert same_number(loose_numbers(net)["body.1.mean"], torch.ones(4))
    assert same_number({"a": [float("nan")]}, {"a": [float("nan")]})
    assert not same_number([1.0], (1.0,))
    assert not same_number(1, 1.0)
    assert not same_number(torch.zeros(2), torch.zeros(3))
