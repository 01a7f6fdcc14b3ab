"""TorchScript archives as containers of weights: their code is neither read nor run."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normexport.checkpoint import load, read_state
from tests.checkpoint import pickle_parts as parts
from tests.checkpoint.support import (
    IMAGES,
    Payload,
    assert_same,
    batch_norm_net,
    forward,
    l1_factory,
    l1_trained,
    only_norm,
    own_forward,
    refused,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

NOTE = "a TorchScript archive: its weights are read, its code is not"


def _changed(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The archive with other members; None leaves one out."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if (new := change(name, data)) is not None:
                archive.writestr(name, new)
    return path


def _with_pickle(path: Path, data: bytes) -> Path:
    return _changed(path, lambda name, old: data if name.endswith("/data.pkl") else old)


def _traced(path: Path, net: nn.Module | None = None) -> Path:
    torch.jit.trace(net or l1_trained(), IMAGES).save(path)
    return path


@pytest.mark.parametrize("trust", [False, True])
def test_a_traced_network_gives_its_weights(tmp_path: Path, trust: bool) -> None:
    net = l1_trained()
    file = _traced(tmp_path / "m.pt")
    checkpoint = load(file, model=l1_factory, trust=trust)
    assert NOTE in checkpoint.notes
    assert only_norm(checkpoint).kind == "l1"
    assert_same(forward(checkpoint.model), own_forward(net))
    loaded = torch.jit.load(file).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in read_state(file).tensors.items())


def test_a_scripted_network_with_lists_and_no_bias_gives_what_pytorch_gives(tmp_path: Path) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, bias=False)
            self.norm = nn.BatchNorm2d(4)
            self.sizes, self.scale, self.name = [1, 2], 0.5, "block"
            self.steps, self.flags = [0.5, 1.5], [True, False]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x)) * self.scale

    net = nn.Sequential(Block(), nn.ModuleList([nn.Linear(2, 2)])[0]).eval()
    torch.jit.script(net).save(tmp_path / "m.pt")
    read = read_state(tmp_path / "m.pt").tensors
    assert read.keys() == net.state_dict().keys()
    assert all(torch.equal(read[name], value) for name, value in net.state_dict().items())


def test_without_code_of_its_own_the_norms_are_listed(tmp_path: Path) -> None:
    checkpoint = load(_traced(tmp_path / "m.pt", batch_norm_net().eval()))
    assert (checkpoint.source, checkpoint.model) == ("state_dict", None)
    assert [record.path for record in checkpoint.norms] == ["bn"]


def test_code_and_constants_of_the_archive_are_not_opened(tmp_path: Path) -> None:
    target = tmp_path / "created"
    hostile = f"import os\nos.mkdir({str(target)!r})\n".encode()

    def change(name: str, data: bytes) -> bytes:
        if name.endswith("constants.pkl"):
            return pickle.dumps(Payload(target))
        return hostile if "/code/" in name else data

    file = _changed(_traced(tmp_path / "m.pt"), change)
    assert_same(forward(load(file, model=l1_factory).model), own_forward(l1_trained()))
    assert not target.exists()


def test_a_pickle_that_calls_anything_is_refused_and_does_nothing(tmp_path: Path) -> None:
    target = tmp_path / "created"
    file = _with_pickle(_traced(tmp_path / "m.pt"), pickle.dumps(Payload(target), protocol=2))
    for trust in (False, True):
        assert "holds objects that are no weights (posix.mkdir)" in refused(file, trust=trust)
    assert not target.exists()


def test_a_buffer_that_the_model_does_not_save_takes_the_number_of_the_file(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.scale = nn.Buffer(torch.full((4, 1, 1), scale), persistent=False)
            self.shift = torch.full((1,), scale)

        def forward(self, x: torch.Tensor) -> Any:
            return torch.mul(self.conv(x), self.scale) + self.shift

    net = Scaled(3.0).eval()
    torch.jit.script(net).save(tmp_path / "m.pt")
    checkpoint = load(tmp_path / "m.pt", model=lambda: Scaled(1.0))
    assert any("is no part of the model's state_dict; the file's numbers stand in it" in n for n in checkpoint.notes)
    assert_same(forward(checkpoint.model), net.double()(IMAGES.double()).detach())


def test_frozen_weights_are_constants_of_code_and_refused(tmp_path: Path) -> None:
    torch.jit.freeze(torch.jit.script(batch_norm_net().eval())).save(tmp_path / "m.pt")
    assert "whose weights are constants of its code; save the network before torch.jit.freeze" in refused(
        tmp_path / "m.pt", model=batch_norm_net
    )


def _object(name: str, **attributes: bytes) -> bytes:
    return parts.name("__torch__", name) + b")\x81" + parts.mapping(**attributes) + b"b"


def _doubled(levels: int) -> bytes:
    body = _object("Leaf", w=b"N") + parts.put(0)
    for level in range(levels):
        body += b"0" + _object("Node", a=parts.get(level), b=parts.get(level)) + parts.put(level + 1)
    return body


def _nested(levels: int) -> bytes:
    body = _object("Leaf", w=b"N") + parts.put(0)
    for level in range(levels):
        body += b"0" + _object("Node", a=parts.get(level)) + parts.put(level + 1)
    return body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"}", "it is no TorchScript archive of a module"),
        (_object("Net", **{"a.b": b"N"}), "has an attribute without a name of its own"),
        (_object("Net", __class__=b"N"), "has an attribute without a name of its own"),
        (_object("Net", **{"a'+f()+'": b"N"}), "has an attribute without a name of its own"),
        (_object("Net")[:-1] + b"(K\x01Nub", "has an attribute without a name of its own"),
        (_object("Net", a=b"N") + b"}b", "an object in it is made in an unusual way"),
        (_object("torch.classes.quantized.Conv2dPackedParamsBase"), "holds packed weights"),
        (_object("Net", a=parts.name("os", "system")), "holds objects that are no weights (os.system)"),
        (_doubled(40), "more than 1,000,000 attributes"),
        (_nested(300), "nested more than 100 deep"),
        (parts.name("__torch__", "N") + b")\x81" + parts.put(0) + b"}" + parts.text("a") + parts.get(0) + b"sb",
         "an object in it holds itself"),
        (_object("Net", a=parts.call(parts.name("torch.jit._pickle", "build_intlist"))), "is made in an unusual way"),
        (_object("Net", a=b"K\x01"), "whose weights are constants of its code"),
    ],
)  # fmt: skip
def test_a_pickle_that_torchscript_does_not_write_is_refused(tmp_path: Path, body: bytes, words: str) -> None:
    file = _with_pickle(_traced(tmp_path / "m.pt"), b"\x80\x02" + body + b".")
    assert words in refused(file)


def test_a_missing_or_damaged_storage_is_refused(tmp_path: Path) -> None:
    file = _traced(tmp_path / "m.pt")
    whole = file.read_bytes()
    _changed(file, lambda name, data: None if name.endswith("/data/0") else data)
    assert "the data of storage 0 is missing" in refused(file)
    file.write_bytes(whole)
    _changed(file, lambda name, data: data[:-4] if name.endswith("/data/0") else data)
    assert "reaches beyond its data" in (message := refused(file)) or "bytes" in message
    for length in (len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert "is truncated or damaged" in refused(file)


def test_objects_that_are_made_of_arguments_hold_no_weights(tmp_path: Path) -> None:
    """Named tuples and enums: nothing of them is made."""
    stream: Any = io.BytesIO()
    torch.save({"w": torch.ones(2)}, stream)
    point = parts.call(parts.name("__torch__", "Point"), b"K\x01")
    file = _with_pickle(_traced(tmp_path / "m.pt"), b"\x80\x02" + _object("Net", at=point) + b".")
    assert "whose weights are constants of its code" in refused(file)
