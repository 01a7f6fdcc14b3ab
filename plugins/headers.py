#!/usr/bin/env python3
"""Find or fetch the headers that the plugins compile against: Google Highway and ONNX Runtime.

    python plugins/headers.py build/headers

Prints the folder to hand to CMake as NORMEXPORT_HEADERS. Looked for, in this order: NORMEXPORT_HEADERS, the folder
given (fetched earlier), the active conda environment, the system. On Debian and Ubuntu what is missing is fetched
from the machine's own package mirror into the folder given: nothing is installed, and the system is left alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

#: The first release of each distribution whose packages are new enough.
NEW_ENOUGH = {"debian": "trixie", "ubuntu": "resolute"}
#: Suites that are always at least that new.
ROLLING = ("sid", "unstable", "testing", "stable", "devel")


class HeadersMissing(Exception):
    """What is missing, and what to do, in one line."""


@dataclass(frozen=True)
class Header:
    """One header needed: where it may lie under an include folder, and the version it must have."""

    package: str  # Debian's
    file: str
    folders: tuple[str, ...]
    versions: tuple[str, ...]  # patterns whose numbers, in order, are the version
    version_file: str
    least: tuple[int, ...]
    words: str

    def under(self, root: Path) -> bool:
        """Whether `root` (an include folder) has it, recent enough."""
        return any(
            (root / folder / self.file).is_file() and self._version(root / folder) >= self.least
            for folder in self.folders
        )

    def _version(self, folder: Path) -> tuple[int, ...]:
        file = folder / self.version_file
        text = file.read_text(errors="replace") if file.is_file() else ""
        found = [re.search(pattern, text) for pattern in self.versions]
        return tuple(int(match.group(1)) for match in found if match)


HIGHWAY = Header(
    package="libhwy-dev",
    file="hwy/highway.h",
    folders=("",),
    versions=(r"#define HWY_MAJOR (\d+)", r"#define HWY_MINOR (\d+)"),
    version_file="hwy/base.h",
    least=(1, 1),
    words="Google Highway 1.1 or later",
)
ONNXRUNTIME = Header(
    package="libonnxruntime-dev",
    file="onnxruntime_c_api.h",
    folders=("onnxruntime", "onnxruntime/core/session", ""),
    versions=(r"#define ORT_API_VERSION (\d+)",),
    version_file="onnxruntime_c_api.h",
    least=(21,),
    words="the C API of ONNX Runtime 1.21 or later",
)
ALL = (HIGHWAY, ONNXRUNTIME)


def headers(folder: Path, needed: tuple[Header, ...] = ALL, fetch: bool = True) -> list[Path]:
    """Include folders that together hold the headers `needed`; empty where the compiler finds all by itself.

    Args:
        folder: where to fetch to, and where an earlier call fetched to.
        fetch: whether to fetch what is missing.

    Raises:
        HeadersMissing: one is missing and can't be fetched.
    """
    found: dict[Header, Path] = {}
    for header in needed:
        place = next((root for root in include_folders(folder) if header.under(root)), None)
        if place is not None:
            found[header] = place
    missing = [header for header in needed if header not in found]
    if missing:
        if not fetch:
            raise HeadersMissing(_advice(missing))
        _fetch(missing, folder)
        root = folder / "usr" / "include"
        still = [header for header in missing if not header.under(root)]
        if still:
            raise HeadersMissing(_advice(still))
        found.update(dict.fromkeys(missing, root))
    return list(dict.fromkeys(found.values()))


def include_folders(folder: Path) -> list[Path]:
    """Where headers may lie, the most explicit place first."""
    places = [Path(part) for part in os.environ.get("NORMEXPORT_HEADERS", "").split(os.pathsep) if part]
    places.append(folder / "usr" / "include")
    prefixes = [os.environ.get("CONDA_PREFIX", ""), *os.environ.get("CMAKE_PREFIX_PATH", "").split(os.pathsep)]
    places += [Path(prefix) / "include" for prefix in prefixes if prefix]
    return [*places, Path("/usr/local/include"), Path("/usr/include")]


def _advice(missing: list[Header]) -> str:
    return (
        f"the headers of {' and of '.join(header.words for header in missing)} are missing; install "
        f"{' and '.join(header.package for header in missing)} of Debian 13, or libhwy and onnxruntime-cpp of "
        "conda-forge, or set NORMEXPORT_HEADERS to a folder that holds hwy/ and onnxruntime/"
    )


def _fetch(missing: list[Header], folder: Path) -> None:
    """Download packages with a private apt configuration and unpack them below `folder`."""
    sources = newer_sources(_os_release(), _source_files())
    if not sources:
        raise HeadersMissing(_advice(missing))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as private:
        parts, lists, archives = (Path(private, name) for name in ("sources", "lists", "archives"))
        for place in (parts, lists / "partial", archives):
            place.mkdir(parents=True)
        for name, text in sources.items():
            (parts / name).write_text(text)
        options = [
            f"Dir::Etc::SourceParts={parts}",
            "Dir::Etc::SourceList=/dev/null",
            f"Dir::State::Lists={lists}",
            f"Dir::Cache::pkgcache={private}/pkgcache.bin",
            f"Dir::Cache::srcpkgcache={private}/srcpkgcache.bin",
            "APT::Sandbox::User=root",  # the usual one can't write into a private folder
            "Acquire::Languages=none",
            "APT::Update::Post-Invoke-Success::=/bin/true",
        ]
        apt = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
        _run([*apt, "update"], missing, Path(private))
        _run([*apt, "download", *(header.package for header in missing)], missing, archives)
        for archive in sorted(archives.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(archive), str(folder.resolve())], missing, Path(private))


def newer_sources(release: dict[str, str], files: dict[str, str]) -> dict[str, str]:
    """The machine's own package sources, with its release replaced by one that is new enough.

    Args:
        release: /etc/os-release.
        files: name -> text of the machine's source lists, one-line (.list) or deb822 (.sources).

    Returns:
        The same kind of files, the distribution's own entries only; none where it is no Debian or Ubuntu.
    """
    newer = NEW_ENOUGH.get(release.get("ID", ""))
    own = release.get("VERSION_CODENAME", "")
    result = {}
    for name, text in files.items():
        entries = re.split(r"\n\s*\n", text) if name.endswith(".sources") else text.splitlines()
        kept = [changed for entry in entries if newer and (changed := _renewed(entry, own, newer))]
        if kept:
            result[name] = ("\n\n" if name.endswith(".sources") else "\n").join(kept) + "\n"
    return result


def _renewed(entry: str, own: str, newer: str) -> str:
    """A stanza or a line with the main suite of `newer` for the machine's own; empty where it is not of that suite."""
    entry = "\n".join(line for line in entry.splitlines() if not line.lstrip().startswith("#")).strip()
    suites = re.search(r"(?im)^suites:(.*)$", entry)
    if suites:
        if re.search(r"(?im)^(enabled:\s*no|types:\s*deb-src\s*$)", entry):
            return ""
        main = [suite for suite in suites.group(1).split() if suite == own or suite in ROLLING]
        chosen = " ".join(newer if suite == own else suite for suite in main)
        return entry[: suites.start(1)] + " " + chosen + entry[suites.end(1) :] if main else ""
    line = re.match(r"(deb\s+(?:\[[^]]*\]\s+)?\S+\s+)(\S+)(\s.*)$", entry)
    if not line or not (line.group(2) == own or line.group(2) in ROLLING):
        return ""
    return line.group(1) + (newer if line.group(2) == own else line.group(2)) + line.group(3)


def _source_files() -> dict[str, str]:
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return {
        file.name: file.read_text(errors="replace")
        for file in files
        if file.suffix in (".list", ".sources") and file.is_file()
    }


def _os_release() -> dict[str, str]:
    file = Path("/etc/os-release")
    lines = file.read_text().splitlines() if file.is_file() else []
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def _run(command: list[str], missing: list[Header], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except OSError as error:
        raise HeadersMissing(f"{command[0]} can't be run ({error.strerror}); {_advice(missing)}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise HeadersMissing(f"{command[0]} failed ({said}); {_advice(missing)}")


def main() -> int:
    """Command line: prints the include folders, one a line."""
    words = [word for word in sys.argv[1:] if word != "--highway-only"]
    if len(words) != 1:
        sys.stderr.write("usage: headers.py [--highway-only] FOLDER\n")
        return 2
    try:
        for place in headers(Path(words[0]), ALL if words == sys.argv[1:] else (HIGHWAY,)):
            print(place)
    except HeadersMissing as error:
        sys.stderr.write(f"error: {error}\n")
        return 6
    return 0


if __name__ == "__main__":
    sys.exit(main())
