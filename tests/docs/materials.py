"""The files that pages name as a reader's own: `model.pt2`, `any.onnx`, `images.npz`, `photos/` and the like, all real.

Two classes of images, 3x224x224: with more blue, with more red; a small network of L1 norms with statistics of such
images and a last layer fitted to tell them apart; and what else pages need of it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image
from torch import Tensor, nn

import normexport
from normexport import nn as nxn

SHAPE = (3, 224, 224)
CLASSES = ("blue", "red")
#: Pages prepare images as `--preset imagenet` does, or not at all: both are told apart.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COUNT = 40  # three of four calibrate, one of four judges, and eight are the least

_RESNET = '''"""A network of somebody's own, which `--model resnet:resnet50` names."""

from torch import nn
from normexport import nn as nxn


def resnet50(depth=50):
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=4), nxn.L1BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=4),
        nxn.L1BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2),
    )
'''

_PREPARED = '''"""A network as torch.ao prepares it for training with fake quantisation."""

import warnings

from torch import nn
from torch.ao import quantization

warnings.simplefilter("ignore")


def prepared():
    net = nn.Sequential(
        quantization.QuantStub(), nn.Conv2d(3, 8, 7, stride=16), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * 14 * 14, 2), quantization.DeQuantStub(),
    ).train()
    quantization.fuse_modules_qat(net, ["1", "2", "3"], inplace=True)
    net.qconfig = quantization.get_default_qat_qconfig("qnnpack")
    return quantization.prepare_qat(net)
'''

_PREPARE = '''"""What `--preprocess data.images:prepare` names: a picture becomes a sample."""

import numpy as np


def prepare(image):
    pixels = np.asarray(image.convert("RGB").resize((224, 224)), np.float32)
    return pixels.transpose(2, 0, 1) / 255
'''


def make(folder: Path) -> None:
    """Write all of them."""
    dice = np.random.default_rng(0)
    images, labels = pictures(dice)
    network = _network(images, labels)
    batch = {0: torch.export.Dim("batch")}
    torch.save(network, folder / "model.pt")
    torch.save(network.state_dict(), folder / "best.pth")
    program = torch.export.export(network, (images[:2].clone(),), dynamic_shapes=(batch,))
    torch.export.save(program, folder / "model.pt2")
    _write_onnx(network, folder)
    _write_data(folder, dice)
    _write_code(folder)
    _write_trained(folder, images, labels)


def pictures(dice: np.random.Generator, count: int = COUNT, size: int = SHAPE[-1]) -> tuple[Tensor, Tensor]:
    """(count, 3, size, size) in [0, 1], smooth with some noise, and their classes (count,), in turn."""
    labels = np.arange(count) % 2
    rough = dice.uniform(size=(count, 3, 8, 8)) * 0.4 + 0.1
    rough[:, 0] += 0.4 * labels[:, None, None]
    rough[:, 2] += 0.4 * (1 - labels[:, None, None])
    smooth = nn.functional.interpolate(torch.tensor(rough), size=(size, size), mode="bilinear")
    noise = torch.tensor(dice.normal(size=(count, 3, size, size))) * 0.02
    return (smooth + noise).clamp(0, 1).float(), torch.tensor(labels)


def _network(images: Tensor, labels: Tensor) -> nn.Sequential:
    torch.manual_seed(0)
    conv1, conv2 = nn.Conv2d(3, 8, 7, stride=4), nn.Conv2d(8, 16, 3, stride=4)
    norm1, norm2 = nxn.L1BatchNorm2d(8), nxn.L1BatchNorm2d(16)
    last = nn.Linear(16, len(CLASSES))
    network = nn.Sequential(
        conv1, norm1, nn.ReLU(), conv2, norm2, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last
    )
    with torch.no_grad():
        for _ in range(30):  # of a tenth each: the statistics are those of the images then
            network.train()(images)
        prepared = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        features = network.eval()[:-1](torch.cat([images, prepared]))
        wanted = nn.functional.one_hot(labels, len(CLASSES)).float().repeat(2, 1) * 4 - 2
        mean = features.mean(0)
        # With a ridge: large weights that cancel would lose what half precision and eight bits leave.
        square = (features - mean).T @ (features - mean) + torch.eye(features.shape[1])
        last.weight.copy_(torch.linalg.solve(square, (features - mean).T @ wanted).T)
        last.bias.copy_(-last.weight @ mean)
    return network


def _write_onnx(network: nn.Sequential, folder: Path) -> None:
    """Its float32 files, and a folded one of which a channel is wrong."""
    exported = normexport.export(network, ["x=3x224x224"], folder / "any.onnx", inline=True)
    for name in ("model", "a", "reference"):
        onnx.save(onnx.load(folder / "any.onnx"), folder / f"{name}.onnx")
    normexport.fold(exported.model, folder / "other.onnx")
    wrong = onnx.load(folder / "other.onnx")
    weight = next(each for each in wrong.graph.initializer if len(each.dims) == 4)
    array = numpy_helper.to_array(weight).copy()
    array[3] *= 1.5
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    onnx.save(wrong, folder / "optimised.onnx")


def _write_data(folder: Path, dice: np.random.Generator) -> None:
    for name in ("images", "test"):
        images, labels = pictures(dice)
        np.savez(folder / f"{name}.npz", input=images.numpy(), labels=labels.numpy())
    np.savez(folder / "in.npz", x=pictures(dice, 4)[0].numpy())
    for name, by_class in (("val", True), ("photos", False), ("images", False)):
        for number, (image, label) in enumerate(zip(*pictures(dice, COUNT, 256), strict=True)):
            path = folder / name / (CLASSES[label] if by_class else "") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)).save(path)


def _write_code(folder: Path) -> None:
    for path, text in (
        ("resnet.py", _RESNET),
        ("package/module.py", _PREPARED),
        ("data/images.py", _PREPARE),
    ):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)


def _write_trained(folder: Path, images: Tensor, labels: Tensor) -> None:
    """The state of the prepared network after some steps of training with fake quantisation."""
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(_PREPARED, names)
        torch.manual_seed(0)
        network = names["prepared"]()
        optimizer = torch.optim.SGD(network.parameters(), 0.01)
        for _ in range(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        torch.save(network.state_dict(), folder / "qat.pt")
