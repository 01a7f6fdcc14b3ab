"""Small files that would take all time or memory: each ends in one line."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from normexport.checkpoint import load
from normexport.checkpoint.pickles.machine import MOST_IN_MEMO, MOST_INSTRUCTIONS, MOST_OBJECTS
from tests.checkpoint import pickle_parts as parts
from tests.checkpoint.support import refused, save

pytestmark = pytest.mark.slow

LIST, RANGE, BYTES = (parts.name("__builtin__", word) for word in ("list", "range", "bytes"))
LINEAR = parts.name("torch.nn.modules.linear", "Linear")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (parts.call(LIST, parts.call(RANGE, parts.number(10**9))), "a list in it is made in an unusual way"),
        (parts.call(parts.name("__builtin__", "tuple"), parts.call(RANGE, parts.number(10**9))), "a tuple in it"),
        (parts.call(parts.name("__builtin__", "set"), parts.call(RANGE, parts.number(10**9))), "a set in it"),
        (parts.call(LINEAR, parts.number(10**5), parts.number(10**5)), "a Linear in it is made in an unusual way"),
        (parts.call(BYTES, parts.number(10**11)), "bytes in it are made in an unusual way"),
        (parts.call(parts.name("__builtin__", "bytearray"), parts.number(10**11)), "bytes in it"),
        (parts.call(parts.name("torch", "Size"), parts.call(RANGE, parts.number(10**9))), "a size in it"),
        (b"\x8b" + struct.pack("<I", 1 << 30), "it holds an int of 1073741824 bytes"),
        (b"X" + struct.pack("<I", (1 << 32) - 1) + b"abc", "its pickle is cut short"),
        (b"\x8e" + struct.pack("<Q", 1 << 60) + b"abc", "its pickle is cut short"),
        (b"\x96" + struct.pack("<Q", 1 << 60) + b"abc", "its pickle is cut short"),
        (b"]" * 5000 + b"a" * 4999, "nested more than 100 deep"),
        (b"K\x01" + b"\x85" * 200_000, "nested more than 100 deep"),
        (b"}K\x01" + b"\x85" * 200_000 + b"K\x01s", "nested more than 100 deep"),
        (b"\x8f" * (MOST_OBJECTS + 1), "objects"),
        (b"N0" * (MOST_INSTRUCTIONS // 2), "instructions"),
        (b"]" + parts.put(0) + parts.get(0) + b"a", "an object in it holds itself"),
        (b"}" + parts.put(0) + parts.text("a") + parts.get(0) + b"s", "an object in it holds itself"),
        (b"2", "the pickle instruction 0x32, which PyTorch never writes"),
        (b"\x82\x01", "the pickle instruction 0x82, which PyTorch never writes"),
    ],
)
def test_pickle_that_would_allocate_or_recurse_is_refused(tmp_path: Path, body: bytes, words: str) -> None:
    assert words in refused(parts.write(tmp_path / "m.pt", body))


def test_a_memo_without_end_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x04K\x01" + b"\x94" * (MOST_IN_MEMO + 1) + b".")
    assert f"remembers more than {MOST_IN_MEMO:,} objects" in refused(tmp_path / "m.pt")


def test_a_memo_index_allocates_nothing(tmp_path: Path) -> None:
    body = parts.mapping(w=parts.tensor()) + parts.put((1 << 32) - 1)
    assert load(parts.write(tmp_path / "m.pt", body, {"0": parts.FOUR})).source == "state_dict"


def _doubled(empty: bytes, wrap: Callable[..., Any], levels: int = 40) -> bytes:
    """Each object holds the one before twice: 2^40 leaves in a few hundred bytes."""
    body = empty + parts.put(0)
    for level in range(levels):
        body += b"0" + wrap(parts.get(level)) + parts.put(level + 1)
    return body


@pytest.mark.parametrize(
    ("empty", "wrap"),
    [
        (b"]", lambda inner: b"]" + inner + b"a" + inner + b"a"),
        (b"}", lambda inner: parts.mapping(a=inner, b=inner)),
        (b")", lambda inner: inner + inner + b"\x86"),
    ],
    ids=["list", "dict", "tuple"],
)
def test_a_structure_of_a_trillion_paths_is_not_walked(tmp_path: Path, empty: bytes, wrap: Callable[..., Any]) -> None:
    """`inspect` of such a file of 634 bytes never ended."""
    body = _doubled(empty, wrap)
    assert ", not weights by name" in refused(parts.write(tmp_path / "m.pt", body))
    holder = parts.mapping(state_dict=parts.mapping(w=parts.tensor()), other=body)
    assert load(parts.write(tmp_path / "m.pt", holder, {"0": parts.FOUR})).source == "state_dict"


def test_wide_levels_of_the_same_objects_are_looked_at_once(tmp_path: Path) -> None:
    """Four levels of 2000 references each have 1.6e13 paths."""
    body = _doubled(b"}", lambda inner: parts.mapping(**{f"k{index}": inner for index in range(2000)}), levels=4)
    assert ", not weights by name" in refused(parts.write(tmp_path / "m.pt", body))


def test_a_tuple_of_a_trillion_paths_is_no_key(tmp_path: Path) -> None:
    """Hashing it would walk every path."""
    body = _doubled(b")", lambda inner: inner + inner + b"\x86")
    body += parts.put(99) + b"0}" + parts.get(99) + b"K\x01s"
    assert "a key in it is no text and no number" in refused(parts.write(tmp_path / "m.pt", body))


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"size": (1 << 40,), "stride": (0,)}, "its tensors have more than the 256 MiB"),
        ({"size": (1 << 40, 1 << 40), "stride": (0, 0)}, "its tensors have more than the 256 MiB"),
        ({"size": (1 << 62, 1 << 62, 16), "stride": (0, 0, 0)}, "its tensors have more than the 256 MiB"),
        ({"size": (2,), "stride": (-1,)}, "a negative size or stride"),
        ({"size": (-2,)}, "a negative size or stride"),
        ({"size": (2,), "offset": -1}, "a size, stride and offset that do not fit together"),
        ({"size": (2, 2)}, "a size, stride and offset that do not fit together"),
        ({"size": (3,), "stride": (2,)}, "a tensor in it (3) reaches beyond its data"),
        ({"size": (1,), "offset": 4}, "a tensor in it (1) reaches beyond its data"),
        ({"size": (1,), "offset": 1 << 62}, "reaches beyond its data"),
        ({"size": (2,), "stride": (1 << 62,)}, "reaches beyond its data"),
        ({"size": (0, (1 << 63) - 1, 3), "stride": ((1 << 63) - 1, 1, 1)}, "impossible sizes"),
        ({"size": (1,) * 65, "stride": (1,) * 65}, "a size that is no list of whole numbers"),
        ({"count": 10**12}, "storage 0 should have 4000000000000 bytes and has 16"),
        ({"count": 1 << 62}, "storage 0 should have"),
        ({"count": -1}, "in an unusual way"),
        ({"storage": "DoubleStorage"}, "storage 0 should have 32 bytes and has 16"),
        ({"key": "1"}, "the data of storage 1 is missing"),
        ({"key": "../version"}, "is missing"),
        ({"storage": "QInt32Storage"}, "nothing computes in"),
    ],
)
def test_tensor_that_claims_more_than_its_data_is_refused(tmp_path: Path, tensor: dict[str, Any], words: str) -> None:
    file = parts.write(tmp_path / "m.pt", parts.mapping(w=parts.tensor(**tensor)), {"0": parts.FOUR})
    assert words in refused(file)


def test_many_views_of_one_storage_count_each(tmp_path: Path) -> None:
    """A thousand tensors that share a megabyte become a gigabyte where each is converted."""
    shared = torch.zeros(1 << 18)
    file = save(tmp_path / "m.pt", {f"w{index}": shared.view(1 << 18) for index in range(1000)})
    assert file.stat().st_size < 2 << 20
    assert "its tensors have more than" in refused(file)


@pytest.mark.parametrize("layout", ["to_sparse_coo", "to_sparse_csr"])
def test_sparse_tensor_counts_as_dense(tmp_path: Path, layout: str) -> None:
    few = getattr(torch.eye(3), layout)()
    make: Callable[..., torch.Tensor] = (
        torch.sparse_coo_tensor if few.layout == torch.sparse_coo else torch.sparse_csr_tensor
    )
    indices = (few.indices(),) if few.layout == torch.sparse_coo else (few.crow_indices(), few.col_indices())
    size = (3, 1 << 40)
    wide = make(*indices, few.values(), size, check_invariants=True)
    assert "its tensors have more than" in refused(save(tmp_path / "m.pt", {"w": wide}))


def test_sparse_tensor_with_indices_beyond_its_size_is_refused(tmp_path: Path) -> None:
    """Made dense unchecked, it would write outside its memory."""
    bad = torch.sparse_coo_tensor(torch.tensor([[5_000_000]]), torch.ones(1), (3,), check_invariants=False)
    assert "a sparse tensor in it contradicts itself" in refused(save(tmp_path / "m.pt", {"w": bad}))


def _zeros(archive: zipfile.ZipFile, member: str, megabytes: int) -> None:
    with archive.open(member, "w", force_zip64=True) as record:
        for _ in range(megabytes):
            record.write(bytes(1 << 20))


@pytest.mark.parametrize("used", [True, False])
def test_a_record_of_zeros_that_unpacks_to_more_than_it_may_is_refused(tmp_path: Path, used: bool) -> None:
    body = parts.mapping(w=parts.tensor(count=300 << 18 if used else 4))
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", parts.pickle(body))
        archive.writestr("m/other", parts.FOUR)
        if not used:
            archive.writestr("m/data/0", parts.FOUR)
        _zeros(archive, "m/data/0" if used else "m/unused", 300)
    assert "it unpacks to more than" in refused(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ((3, "<", None, None, None, -1, -1, 63), "parts, metadata or odd flags"),
        ((3, "<", None, ("a",), {"a": 1}, 8, 1, 16), "parts, metadata or odd flags"),
        ((3, "<", (1, (2,)), None, None, -1, -1, 0), "parts, metadata or odd flags"),
        ((3, "<", None, None, None, 1 << 40, 1, 0), "parts, metadata or odd flags"),
        ((4, "<", None, None, None, -1, -1, 0, {}), "parts, metadata or odd flags"),
        ((3, "x", None, None, None, -1, -1, 0), "parts, metadata or odd flags"),
    ],
)
def test_numpy_type_with_odd_flags_is_refused(tmp_path: Path, state: tuple[Any, ...], words: str) -> None:
    class Odd:
        def __reduce__(self) -> tuple[type[np.dtype], tuple[str, bool, bool], tuple[int | str | None, ...]]:
            return np.dtype, ("f8", False, True), state

    assert words in refused(save(tmp_path / "m.pt", {"a": Odd(), "w": torch.ones(2)}))


@pytest.mark.parametrize("kind", ["O8", "V8", "S9999999999", "M8[s]", "i3", "f8,f8", "(1000000,1000000)f8", "O"])
def test_numpy_type_that_is_no_plain_number_is_refused(tmp_path: Path, kind: str) -> None:
    body = parts.call(parts.name("numpy", "dtype"), parts.text(kind), b"\x89", b"\x88")
    message = refused(parts.write(tmp_path / "m.pt", body))
    assert "a numpy array in it holds" in message
    assert ("Python objects" in message) == kind.startswith("O")


def test_numpy_array_of_objects_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", {"w": np.array([1, "a"], dtype=object)})
    assert "a numpy array in it holds Python objects" in refused(file)


def test_numpy_array_with_less_data_than_its_shape_is_refused(tmp_path: Path) -> None:
    class Short:
        def __reduce__(self) -> tuple[Any, ...]:
            parts: Any = np.zeros(2).__reduce__()
            rebuild, args, state = parts
            return rebuild, args, (state[0], (1 << 40,), *state[2:])

    assert "a numpy array in it should have 8796093022208 bytes and has 16" in refused(
        save(tmp_path / "m.pt", {"w": Short()})
    )


def test_modules_of_a_trillion_paths_are_refused(tmp_path: Path) -> None:
    module: nn.Module = nn.Linear(2, 2)
    for _ in range(20):
        module = nn.Sequential(module, nn.Sequential(module))
    assert "paths to them" in refused(save(tmp_path / "m.pt", module))


def test_modules_nested_without_end_are_refused(tmp_path: Path) -> None:
    module: nn.Module = nn.Linear(2, 2)
    for _ in range(70):
        module = nn.Sequential(module)
    assert "has modules nested 65 deep" in refused(save(tmp_path / "m.pt", module))


def test_a_module_that_holds_itself_is_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    module._modules["again"] = module
    assert "an object in it holds itself" in refused(save(tmp_path / "m.pt", module))


def test_a_huge_number_of_layers_in_a_recurrent_layer_is_refused(tmp_path: Path) -> None:
    module = nn.LSTM(2, 3)
    module.num_layers = 10**9
    assert "contradicts itself: 1000000000 layers" in refused(save(tmp_path / "m.pt", module))


def test_old_format_with_a_declared_terabyte_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save({"w": torch.ones(4)}, stream, _use_new_zipfile_serialization=False)
    data = stream.getvalue().replace(b"K\x04Ntq", b"\x8a\x05\0\0\0\0\x01Ntq")
    assert data != stream.getvalue()
    (tmp_path / "m.pt").write_bytes(data)
    assert "storage" in refused(tmp_path / "m.pt")
