"""What is rebuilt from honest files is what PyTorch's own reader makes of them, bit for bit, sharing included."""

from __future__ import annotations

import argparse
import collections
import itertools
import pathlib
import tempfile
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from normexport.checkpoint.pickles.unpickle import unpickle

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def bits(tensor: torch.Tensor) -> bytes:
    """The elements as bytes, in the order of the tensor; NaN and the sign of zero count."""
    if not tensor.numel():
        return b""
    plain = tensor.detach().resolve_conj().resolve_neg()
    # A copy: one element of stride 0 counts as contiguous, and has no bytes to view.
    return plain.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same_tensor(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert type(got) is type(expected)
    assert (got.dtype, got.shape, got.stride(), got.layout) == (
        expected.dtype,
        expected.shape,
        expected.stride(),
        expected.layout,
    )
    assert got.storage_offset() == expected.storage_offset()
    assert got.requires_grad == expected.requires_grad
    assert (got.is_conj(), got.is_neg()) == (expected.is_conj(), expected.is_neg())
    assert bits(got) == bits(expected)


def assert_same(got: Any, expected: Any, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Equal, of the same types; `pairs` collects tensors for the comparison of what they share."""
    if isinstance(expected, torch.Tensor):
        assert_same_tensor(got, expected)
        pairs.append((got, expected))
    elif isinstance(expected, (list, tuple)):
        assert type(got) is type(expected)
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other, pairs)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for key in expected:
            assert_same(got[key], expected[key], pairs)
    elif isinstance(expected, np.ndarray):
        native = expected.astype(expected.dtype.newbyteorder("="))  # what numpy makes of it depends on the protocol
        assert (got.dtype, got.shape) == (native.dtype, native.shape)
        assert got.tobytes() == native.tobytes()
    else:
        assert type(got) is type(expected)
        assert got == expected or (got != got and expected != expected)


def assert_same_sharing(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Two tensors share an object, or memory, exactly where PyTorch's do."""
    for (one, expected), (other, also_expected) in itertools.combinations(pairs, 2):
        assert (one is other) == (expected is also_expected)
        shared = expected.untyped_storage().data_ptr() == also_expected.untyped_storage().data_ptr()
        if expected.untyped_storage().nbytes() and also_expected.untyped_storage().nbytes():
            assert (one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()) == shared


def random_tensor(dtype: torch.dtype, count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.randint(0, 2, (count,), generator=generator).bool()
    size = count * torch.empty(0, dtype=dtype).element_size()
    return torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator).view(dtype)


@st.composite
def tensors(draw: Callable[..., Any], shared: list[torch.Tensor]) -> torch.Tensor:
    """A view of a new storage, or of one drawn before; now and then a parameter."""
    if shared and draw(st.booleans()):
        storage = draw(st.sampled_from(shared))
    else:
        storage = random_tensor(draw(st.sampled_from(DTYPES)), draw(st.integers(0, 12)), draw(st.integers(0, 1000)))
        shared.append(storage)
    count = storage.numel()
    offset = draw(st.integers(0, count))
    size = draw(st.lists(st.integers(0, 3), max_size=3))
    stride = [draw(st.integers(0, 3)) for _ in size]
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if 0 not in size and last >= count:
        return storage
    view = torch.as_strided(storage, size, stride, offset)
    floating = view.is_floating_point() or view.is_complex()
    if draw(st.integers(0, 3)) == 0:
        return nn.Parameter(view, requires_grad=floating and draw(st.booleans()))
    if view.is_complex() and draw(st.booleans()):
        return view.conj()
    return view


@st.composite
def contents(draw: st.DrawFn) -> Any:
    shared: list[Any] = []
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(), st.text(max_size=5), tensors(shared),
    )  # fmt: skip
    keys = st.one_of(st.text(max_size=4), st.integers(-5, 5))
    nested = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(keys, inner, max_size=4),
            st.dictionaries(keys, inner, max_size=4).map(collections.OrderedDict),
        ),
        max_leaves=12,
    )
    content = draw(nested)
    return [content, content] if draw(st.booleans()) else content


@pytest.mark.parametrize("zipped", [True, False])
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(content=contents(), protocol=st.sampled_from([2, 3, 4, 5]))
def test_nests_of_tensors_are_what_torch_load_makes(zipped: bool, content: Any, protocol: int) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "m.pt"
        torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        try:
            expected = torch.load(file, weights_only=False)
        except (RuntimeError, KeyError, AttributeError):  # types that the old format has no storage for
            return
        pairs: list[Any] = []
        assert_same(unpickle(file, trust=False), expected, pairs)
        assert_same_sharing(pairs)


def test_what_scripts_put_beside_weights_is_what_torch_load_makes(tmp_path: Path) -> None:
    content = {
        "sets": [{1, 2, "a"}, frozenset({(1, "b")})],
        "bytes": [b"\x00\xff", b"", bytearray(b"xyz")],
        "numbers": [1 + 2j, 2**62, -(2**100), 0.1, float("inf")],
        "ranges": [range(3, 9, 2), slice(1, None, 2)],
        "torch": [torch.Size((2, 3)), torch.float16, torch.device("cpu")],
        "numpy": [np.float64(0.1), np.float32(3), np.int64(7), np.bool_(True), np.complex64(1j)],
        "arrays": [np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((2, 3))), np.array(["ab", "c"]), np.ones(0)],
        "orders": [np.arange(3, dtype=">i4"), np.array([b"ab"]), np.random.RandomState(0).get_state()],
    }
    for protocol in (2, 3, 4, 5):
        torch.save(content, tmp_path / "m.pt", pickle_protocol=protocol)
        assert_same(unpickle(tmp_path / "m.pt", trust=False), torch.load(tmp_path / "m.pt", weights_only=False), [])


def test_namespaces_paths_and_counters_are_plain_data(tmp_path: Path) -> None:
    content = [
        argparse.Namespace(lr=0.1), types.SimpleNamespace(a=[1]), pathlib.PurePosixPath("/data/x"),
        collections.Counter("aab"), collections.defaultdict(list, loss=[1]), collections.deque([1, 2], 5),
    ]  # fmt: skip
    torch.save(content, tmp_path / "m.pt")
    got = unpickle(tmp_path / "m.pt", trust=False)
    assert got[:3] == content[:3]
    assert got[3:] == [{"a": 2, "b": 1}, {"loss": [1]}, [1, 2]]


def test_metadata_of_a_state_dict_survives(tmp_path: Path) -> None:
    state = nn.Sequential(nn.BatchNorm1d(2)).state_dict()
    torch.save(state, tmp_path / "m.pt")
    got = unpickle(tmp_path / "m.pt", trust=False)
    assert type(got) is collections.OrderedDict
    assert vars(got)["_metadata"] == vars(state)["_metadata"]


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
def test_sparse_tensors_are_what_torch_load_makes(tmp_path: Path, layout: str) -> None:
    dense = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])
    torch.save({"w": getattr(dense, layout)()}, tmp_path / "m.pt")
    got, expected = unpickle(tmp_path / "m.pt", trust=False)["w"], torch.load(tmp_path / "m.pt")["w"]
    assert got.layout == expected.layout
    assert torch.equal(got.to_dense(), dense)
    assert layout != "to_sparse" or got.is_coalesced() == expected.is_coalesced()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int16, torch.complex64])
def test_files_of_the_other_byte_order_are_swapped(tmp_path: Path, dtype: torch.dtype) -> None:
    """As torch.load does; the storages are swapped by numpy's own reading of big-endian numbers."""
    state = {"w": torch.arange(5).to(dtype), "v": torch.ones(2, dtype=dtype)}
    torch.save(state, tmp_path / "m.pt")
    size = 4 if dtype == torch.complex64 else dtype.itemsize
    with zipfile.ZipFile(tmp_path / "m.pt") as old, zipfile.ZipFile(tmp_path / "big.pt", "w") as new:
        for name in old.namelist():
            data = b"big" if name.endswith("byteorder") else old.read(name)
            if "/data/" in name:
                data = np.frombuffer(data, f">u{size}").astype(f"<u{size}").tobytes()
            new.writestr(name.replace("m/", "big/"), data)
    got, expected = unpickle(tmp_path / "big.pt", trust=False), torch.load(tmp_path / "big.pt")
    for key, value in state.items():
        assert torch.equal(got[key], value)
        assert torch.equal(expected[key], value)


def test_tied_parameters_of_a_module_stay_tied(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU())
    net[1].weight = net[0].weight
    net[2] = net[0]
    torch.save(net, tmp_path / "m.pt")
    got = unpickle(tmp_path / "m.pt", trust=False)
    assert got[1].weight is got[0].weight
    assert got[2] is got[0]


def test_files_of_python_2_open(tmp_path: Path) -> None:
    """Their text is bytes (SHORT_BINSTRING), and an OrderedDict lists its entries."""
    from tests.checkpoint import pickle_parts as parts

    def old(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    value = parts.tensor().replace(parts.text("storage"), old("storage")).replace(parts.text("0"), old("0"))
    entry = b"]" + old("w") + b"a" + value + b"a"
    body = parts.call(parts.name("collections", "OrderedDict"), b"]" + entry + b"a")
    got = unpickle(parts.write(tmp_path / "m.pt", body, {"0": parts.FOUR}), trust=False)
    assert torch.equal(got["w"], torch.tensor([1.0, 2.0, 3.0, 4.0]))
