"""The same labelled samples in every form that data can have, written by the libraries whose formats these are."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]


def pictures(count: int = 7, size: tuple[int, int] = (12, 12)) -> Images:
    """(count, *size, 3) pixels."""
    return np.random.default_rng(4).integers(0, 256, (count, *size, 3), np.uint8)


def classes(count: int = 7) -> list[int]:
    """A class for each."""
    return [number * 5 % 3 for number in range(count)]


def values(images: Images) -> npt.NDArray[np.float32]:
    """What the pictures are to a model that reads (3, h, w) in [0, 1]: (count, 3, h, w)."""
    return (images.transpose(0, 3, 1, 2) * np.float64(1 / 255)).astype(np.float32)


def png(image: Images) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def npy(array: npt.NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def tar(members: Mapping[str, bytes], style: int = tarfile.USTAR_FORMAT) -> bytes:
    """An archive of these files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=style) as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return file.getvalue()


def halves(count: int) -> tuple[range, range]:
    """Numbers of the samples of two files."""
    return range(count // 2), range(count // 2, count)


def npz_files(folder: Path, images: Images, labels: Sequence[int]) -> str:
    for at, part in enumerate(halves(len(images))):
        np.savez_compressed(folder / f"{at}.npz", input=values(images)[part], labels=np.array(labels)[part])
    return str(folder / "*.npz")


def folder_of_npz_files(folder: Path, images: Images, labels: Sequence[int]) -> str:
    npz_files(folder, images, labels)
    return str(folder)


def image_files(folder: Path, images: Images, labels: Sequence[int]) -> str:
    for number, image in enumerate(images):
        (folder / f"{number:03}.png").write_bytes(png(image))
    np.save(folder / "labels.npy", np.array(labels))
    return str(folder)


def shards(folder: Path, images: Images, labels: Sequence[int]) -> str:
    for at, part in enumerate(halves(len(images))):
        members: dict[str, bytes] = {}
        for number in part:
            members |= {f"a/{number:03}.x.png": png(images[number]), f"a/{number:03}.cls": b"%d\n" % labels[number]}
            members |= {f"a/{number:03}.json": b"{}"}
        (folder / f"s-{at}.tar").write_bytes(tar(members, (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)[at]))
    return str(folder / "s-?.tar")


def shards_of_arrays(folder: Path, images: Images, labels: Sequence[int]) -> str:
    members: dict[str, bytes] = {}
    for number, array in enumerate(values(images)):
        members |= {f"{number}.npy": npy(array), f"{number}.cls": str(labels[number]).encode()}
    (folder / "all.tar").write_bytes(tar(members))
    return str(folder / "all.tar")


def _table(folder: Path, columns: Mapping[str, object], group: int = 2) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    parquet.write_table(arrow.table(dict(columns)), folder / "t.parquet", row_group_size=group)


def table_of_images(folder: Path, images: Images, labels: Sequence[int]) -> str:
    cells = [{"bytes": png(image), "path": f"{number}.png"} for number, image in enumerate(images)]
    _table(folder, {"image": cells, "label": list(labels)})
    return str(folder)


def table_of_numbers(folder: Path, images: Images, labels: Sequence[int]) -> str:
    import pyarrow as arrow

    flat = arrow.FixedSizeListArray.from_arrays(values(images).reshape(-1), values(images)[0].size)
    _table(folder, {"y": list(labels), "input": flat, "other": ["words"] * len(images)}, 3)
    return str(folder / "t.parquet")


def table_of_nested_lists(folder: Path, images: Images, labels: Sequence[int]) -> str:
    import pyarrow as arrow

    nested = arrow.array(values(images).tolist(), arrow.list_(arrow.list_(arrow.list_(arrow.float32()))))
    _table(folder, {"input": nested, "targets": list(labels)}, 100)
    return str(folder / "*.parquet")


def table_of_npy(folder: Path, images: Images, labels: Sequence[int]) -> str:
    _table(folder, {"input": [npy(array) for array in values(images)], "label": list(labels)})
    return str(folder)


Form = Callable[[Path, Images, Sequence[int]], str]

FORMS: tuple[Form, ...] = (npz_files, folder_of_npz_files, image_files, shards, shards_of_arrays)
TABLES: tuple[Form, ...] = (table_of_images, table_of_numbers, table_of_nested_lists, table_of_npy)
