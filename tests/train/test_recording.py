"""A recording holds the norms before every step, one small row each, and is read back as it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normexport.errors import UsageError
from normexport.train import find_scale_invariant, read_channel_norms, record_channel_norms
from tests.train.networks import convnet, groups, loss_of


def norms(weight: Tensor) -> np.ndarray:
    """Of the rows, in numpy."""
    values = weight.detach().double().numpy()
    return np.sqrt((values.reshape(len(values), -1) ** 2).sum(1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


def test_rows_are_the_norms_before_each_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = convnet()
    optimizer = torch.optim.SGD(groups(model, 0.01), lr=0.1, momentum=0.9)
    expected = []
    with record_channel_norms(model, optimizer, tmp_path / "norms") as recorder:
        for _ in range(4):
            expected.append([norms(model[0].weight), norms(model[3].weight)])
            step(model, optimizer)
        assert recorder.steps == 4
        assert list(recorder.layers.others) == ["8"]
    step(model, optimizer)  # after it was closed
    recording = read_channel_norms(tmp_path / "norms")
    assert dict(recording.layers) == {"0": 6, "3": 6}
    assert dict(recording.decay) == {"0": 0.01, "3": 0.01}
    assert recording.steps == 4
    for t, (first, second) in enumerate(expected):
        np.testing.assert_allclose(recording.at(t)["0"], first, rtol=1e-14)
        np.testing.assert_allclose(recording.at(t)["3"], second, rtol=1e-14)
    np.testing.assert_array_equal(recording.of("3")[2], recording.at(2)["3"])


def test_a_row_takes_four_bytes_a_vector_and_is_on_disk_after_its_step(tmp_path: Path) -> None:
    model: Any = convnet().float()
    model[0].weight.data *= 1e-30  # squares that float32 has no room for
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-40)
    sizes = []
    with record_channel_norms(model, optimizer, tmp_path / "norms"):
        for _ in range(3):
            sizes.append((tmp_path / "norms").stat().st_size)
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
    assert np.diff(sizes).tolist() == [48, 48]
    np.testing.assert_allclose(read_channel_norms(tmp_path / "norms").at(2)["0"], norms(model[0].weight), rtol=1e-6)


def test_an_interrupted_run_goes_on_at_its_checkpoint(tmp_path: Path) -> None:
    whole, halves = convnet(), convnet()
    halves.load_state_dict(whole.state_dict())
    optimizers = [torch.optim.SGD(groups(each, 0.01), lr=0.1, momentum=0.9) for each in (whole, halves)]
    with record_channel_norms(whole, optimizers[0], tmp_path / "whole"):
        for _ in range(6):
            step(whole, optimizers[0])
    with record_channel_norms(halves, optimizers[1], tmp_path / "halves") as recorder:
        for t in range(5):
            if t == 3:
                kept = [{k: v.clone() for k, v in halves.state_dict().items()}, optimizers[1].state_dict()]
                kept = torch.load(_saved(kept, tmp_path))
                state = recorder.state_dict()
            step(halves, optimizers[1])
    with (tmp_path / "halves").open("ab") as file:
        file.write(b"half a row")
    assert read_channel_norms(tmp_path / "halves").steps == 5
    halves.load_state_dict(kept[0])
    optimizers[1].load_state_dict(kept[1])
    with record_channel_norms(halves, optimizers[1], tmp_path / "halves", resume=True) as recorder:
        recorder.load_state_dict(state)
        for _ in range(3):
            step(halves, optimizers[1])
    assert (tmp_path / "halves").read_bytes() == (tmp_path / "whole").read_bytes()


def _saved(thing: Any, folder: Path) -> Path:
    torch.save(thing, folder / "kept")
    return folder / "kept"


def test_what_can_not_be_resumed_is_told(tmp_path: Path) -> None:
    model = convnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = record_channel_norms(model, optimizer, tmp_path / "norms")
    with pytest.raises(UsageError, match="has 0 steps and the run goes on at 7"):
        recorder.load_state_dict({"step": 7})
    recorder.close()
    other = convnet(channels=4)
    with pytest.raises(UsageError, match="records other layers"):
        record_channel_norms(other, optimizer, tmp_path / "norms", resume=True)
    with pytest.raises(UsageError, match="records another weight decay"):
        record_channel_norms(model, torch.optim.SGD(groups(model, 0.1), lr=0.1), tmp_path / "norms", resume=True)


def test_a_model_without_norms_is_refused_before_a_file_is_made(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match=r"no layer is scale invariant \(0: its output goes into the model's output"):
        record_channel_norms(model, optimizer, tmp_path / "norms")
    with pytest.raises(UsageError, match="can't be written"):
        record_channel_norms(convnet(), optimizer, tmp_path / "no" / "norms")
    assert not list(tmp_path.iterdir())


HEADER = {"format": "normexport channel norms 1", "type": "<f4", "layers": {"0": 3}, "decay": {"0": 0.01}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}q\x00.",
        b"[" * 100_000,
        b"7\n",
        b"null\n",
        json.dumps(HEADER | {"format": "other"}).encode() + b"\n",
        json.dumps(HEADER | {"type": "O"}).encode() + b"\n",
        json.dumps(HEADER | {"type": ["<f4"]}).encode() + b"\n",
        json.dumps(HEADER | {"layers": {}}).encode() + b"\n",
        json.dumps(HEADER | {"layers": {"0": -1}}).encode() + b"\n",
        json.dumps(HEADER | {"layers": {"0": 1.5}}).encode() + b"\n",
        json.dumps(HEADER | {"layers": {"0": True}}).encode() + b"\n",
        json.dumps({name: value for name, value in HEADER.items() if name != "decay"}).encode() + b"\n",
        json.dumps(HEADER | {"decay": [0.01]}).encode() + b"\n",
        json.dumps(HEADER | {"decay": {"0": "much"}}).encode() + b"\n",
        json.dumps(HEADER | {"decay": {"0": float("nan")}}).encode() + b"\n",
        json.dumps(HEADER | {"decay": {"1": 0.01}}).encode() + b"\n",
        json.dumps(HEADER).encode(),  # cut off
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "norms").write_bytes(content)
    with pytest.raises(UsageError, match="is no recording of channel norms") as caught:
        read_channel_norms(tmp_path / "norms")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="can't be read"):
        read_channel_norms(tmp_path / "none")


def test_rows_that_are_not_there_or_not_finite_are_refused(tmp_path: Path) -> None:
    header = json.dumps(HEADER).encode() + b"\n"
    (tmp_path / "norms").write_bytes(header + np.array([1, 2, np.nan], "<f4").tobytes())
    recording = read_channel_norms(tmp_path / "norms")
    with pytest.raises(UsageError, match="not finite at step 0"):
        recording.at(0)
    with pytest.raises(UsageError, match="has 1 steps and no step 1"):
        recording.at(1)
    with pytest.raises(UsageError, match="has no layer 9"):
        recording.of("9")
    (tmp_path / "norms").write_bytes(header)
    assert read_channel_norms(tmp_path / "norms").steps == 0


def test_layers_may_be_given(tmp_path: Path) -> None:
    model = convnet()
    found = find_scale_invariant(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record_channel_norms(model, optimizer, tmp_path / "norms", layers=found) as recorder:
        assert recorder.layers is found
