#!/usr/bin/env python3
"""Fetch the headers that the plugins compile against, from their makers, each file held to a hash written here.

    python plugins/fetch_headers.py build/headers              # Google Highway and ONNX Runtime
    python plugins/fetch_headers.py build/headers tensorrt

Run where wheels are built and where kernels are changed; a wheel carries what it was built with. What a machine has
already (`plugins/headers.py` finds it) is not fetched. Each set has one or two places that it can be had from; nothing
of a download is used unless its SHA-256 is the one below, so a mirror is trusted with availability and nothing else.

- highway 1.2.0: the archive of github.com/google/highway, which Debian keeps a copy of.
- onnxruntime 1.21.0: one header of github.com/microsoft/onnxruntime, or Debian's package of it, where it is the same.
- tensorrt 10.14: the headers that NVIDIA publishes (Apache-2.0) in github.com/NVIDIA/TensorRT.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

sys.path.insert(0, str(Path(__file__).parent))
import headers

#: A download may be no larger: bytes.
LARGEST = 16 << 20
#: Seconds without an answer.
PATIENCE = 60.0

_DEBIAN = "https://deb.debian.org/debian/pool/main"
_MICROSOFT = "https://raw.githubusercontent.com/microsoft/onnxruntime/v1.21.0"
_NVIDIA = "https://raw.githubusercontent.com/NVIDIA/TensorRT/3b4ddc1d45f11167f2ea53dc6046bba8df800e2d"


@dataclass(frozen=True)
class Download:
    """One file of the network, and what of it is kept.

    Attributes:
        address: its URL.
        sha256: of all its bytes.
        keep: where it is an archive (.tar.gz, .deb): path in it -> path here; a path that ends in "/*.h" means the
            headers of that folder. Else {"": path here}.
    """

    address: str
    sha256: str
    keep: dict[str, str]


def _highway(address: str) -> tuple[Download, ...]:
    root = "highway-1.2.0"
    keep = {f"{root}/hwy/*.h": "hwy", f"{root}/hwy/ops/*.h": "hwy/ops", f"{root}/LICENSE": "LICENSE"}
    return (Download(address, "7e0be78b8318e8bdbf6fa545d2ecb4c90f947df03f7aadc42c1967f019e63343", keep),)


_DEBIAN_ONNXRUNTIME = Download(
    f"{_DEBIAN}/o/onnxruntime/libonnxruntime-dev_1.21.0+dfsg-1_amd64.deb",
    "14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08",
    {
        "./usr/include/onnxruntime/onnxruntime_c_api.h": "onnxruntime/onnxruntime_c_api.h",
        "./usr/share/doc/libonnxruntime-dev/copyright": "LICENSE",
    },
)
_MICROSOFT_ONNXRUNTIME = (
    Download(
        f"{_MICROSOFT}/include/onnxruntime/core/session/onnxruntime_c_api.h",
        "7783e9664bdb0b1b36145b5c8587dd1bc9a399aa000edf2e3dd03003cafc6882",
        {"": "onnxruntime/onnxruntime_c_api.h"},
    ),
    Download(
        f"{_MICROSOFT}/LICENSE",
        "2f07c72751aed99790b8a4869cf2311df85a860b22ded05fa22803587a48922c",
        {"": "LICENSE"},
    ),
)
#: NvInfer.h and all that it includes, as they are in NVIDIA's release v10.14; the licence stands in each. The plugin
#: needs NvInferRuntime.h of them, a program that opens plans the rest.
_NVIDIA_HEADERS = {
    "NvInfer.h": "5eecf9207aade32b39603a4056bea73a16aa7d8363bf6794366e22d3d318de83",
    "NvInferImpl.h": "08eea4ddf972738bfe76725689a5a8c104c91b181c805e64a8b76abcf173d846",
    "NvInferLegacyDims.h": "3e10fe5b85545f2e956e6935271badf0b1c72553b698000a61d46d69c5d53030",
    "NvInferPluginBase.h": "774e457b2e80f27502ea1aed8132949f6e0788251b5374948e1bfdc9de9fb0ee",
    "NvInferRuntime.h": "b439dc39da8ff1c778f4cfd84090534985237c1c65fba96aba6bbdfeca6dbbf5",
    "NvInferRuntimeBase.h": "f7abd0bca8a2641ad92f270b53e7843a1eaf8c56568cbaf7bf8d5878330c4ec9",
    "NvInferRuntimeCommon.h": "9461c9d07403c5dd1f8a6dea17fa5c3fe5cef7c4290c6768370a1d8139d4ac5d",
    "NvInferRuntimePlugin.h": "d337b34b7b7efc1c65ba3405a6551389063669cb0c51704f91578b5f817999fc",
    "NvInferVersion.h": "950df353f2c1f5d322862e4fd407f5785fc994b146998574da3174dee85855fa",
}

#: Set of headers -> the places it can be had from, the maker's first; a place is all the downloads it takes.
PLACES: dict[str, tuple[tuple[Download, ...], ...]] = {
    "highway": (
        _highway("https://github.com/google/highway/archive/refs/tags/1.2.0.tar.gz"),
        _highway(f"{_DEBIAN}/h/highway/highway_1.2.0.orig.tar.gz"),
    ),
    "onnxruntime": (_MICROSOFT_ONNXRUNTIME, (_DEBIAN_ONNXRUNTIME,)),
    "tensorrt": (
        tuple(Download(f"{_NVIDIA}/include/{name}", sha256, {"": name}) for name, sha256 in _NVIDIA_HEADERS.items()),
    ),
}


class CanNotFetch(Exception):
    """Why nothing was fetched, in one line."""


def fetch(name: str, folder: Path) -> Path:
    """Put the headers of one set into `folder`/`name`, which appears whole or not at all.

    Raises:
        CanNotFetch: no place answers, or what answers is not the file it should be.
    """
    reasons = []
    folder.mkdir(parents=True, exist_ok=True)
    for place in PLACES[name]:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as beside:
            made = Path(beside, name)
            try:
                for download in place:
                    _unpack(download, _downloaded(download), made)
            except CanNotFetch as error:
                reasons.append(str(error))
                continue
            with contextlib.suppress(OSError):  # somebody else was first
                made.rename(folder / name)
            return folder / name
    raise CanNotFetch(f"the headers of {name} can't be fetched: {'; '.join(reasons)}")


def _downloaded(download: Download) -> bytes:
    """The bytes of a download that are what they should be."""
    try:
        with urllib.request.urlopen(download.address, timeout=PATIENCE) as answer:
            content: bytes = answer.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # URLError is an OSError
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise CanNotFetch(f"{download.address} ({reason})") from error
    if hashlib.sha256(content).hexdigest() != download.sha256:
        raise CanNotFetch(f"{download.address} is not the file it should be (SHA-256)")
    return content


def _unpack(download: Download, content: bytes, target: Path) -> None:
    """Write what is kept of a download below `target`."""
    for path, text in _kept(download, content):
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)


def _kept(download: Download, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Path here and bytes of everything that is kept."""
    if "" in download.keep:
        yield download.keep[""], content
        return
    tar = _data_of_deb(content) if download.address.endswith(".deb") else content
    kept = 0
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            folder = download.keep.get(f"{path.parent}/*{path.suffix}")
            here = download.keep.get(member.name) or (f"{folder}/{path.name}" if folder else None)
            file = archive.extractfile(member) if here and member.isfile() else None
            if here and file is not None:
                kept += 1
                yield here, file.read()
    if kept < len(download.keep):
        raise CanNotFetch(f"{download.address} lacks headers")


def _data_of_deb(content: bytes) -> bytes:
    """The tar file in a Debian package, which is an `ar` archive: headers of 60 bytes, contents at even offsets."""
    offset = 8
    while offset + 60 <= len(content):
        name, size = content[offset : offset + 16], int(content[offset + 48 : offset + 58])
        if name.startswith(b"data.tar"):
            return content[offset + 60 : offset + 60 + size]
        offset += 60 + size + size % 2
    raise CanNotFetch("a Debian package without data")


def main() -> int:
    """Command line: fetch what the machine lacks, print where it lies; 6 and one line where that can't be had."""
    folder, *names = sys.argv[1:] or [""]
    if not folder or not set(names) <= set(PLACES):
        sys.stderr.write(f"error: usage: fetch_headers.py FOLDER [{' '.join(PLACES)}]\n")
        return 2
    for name in names or [header.name for header in headers.ALL]:
        try:
            places = headers.headers(Path(folder), (headers.BY_NAME[name],))
        except headers.HeadersMissing:
            try:
                places = [fetch(name, Path(folder))]
            except CanNotFetch as error:
                sys.stderr.write(f"error: {error}\n")
                return 6
        print(*places)
    return 0


if __name__ == "__main__":
    sys.exit(main())
