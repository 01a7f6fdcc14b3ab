"""A real Chromium, driven by Playwright: neither is needed to use normexport, so tests say what is missing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

#: Root can't be sandboxed; the rest keeps the browser from asking hosts on its own.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser, of the path in NORMEXPORT_CHROMIUM, or found on PATH, or brought by Playwright."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    given = os.environ.get("NORMEXPORT_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    with playwright.sync_playwright() as driver:
        if given is None and not os.path.exists(driver.chromium.executable_path):
            pytest.skip(
                "no Chromium: apt install chromium, playwright install chromium, or name it in NORMEXPORT_CHROMIUM"
            )
        browser = driver.chromium.launch(executable_path=given, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()
