"""A real Chromium for tests: found, never downloaded, and started so that it talks to nobody but the page.

async with async_playwright() as playwright:
    browser = await playwright.chromium.launch(**chromium.options)
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # A microphone for pages that ask for one: a beep, and no question.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


class ChromiumMissing(RuntimeError):  # noqa: N818 - it is named after what it says
    """There is no Chromium; the message says what to install."""


@dataclass(frozen=True)
class Chromium:
    """Where it is, and how it is started."""

    path: Path
    arguments: tuple[str, ...] = ARGUMENTS

    @property
    def options(self) -> Mapping[str, Any]:
        """What playwright's ``chromium.launch`` takes."""
        return {"executable_path": str(self.path), "headless": True, "args": list(self.arguments)}


def find() -> Chromium:
    """VISAVIS_CHROMIUM, or what is on PATH. Raises ChromiumMissing."""
    named = os.environ.get("VISAVIS_CHROMIUM")
    if named and not Path(named).is_file():
        raise ChromiumMissing(f"VISAVIS_CHROMIUM names {named}, which is not there")
    for name in (named, *NAMES):
        path = shutil.which(name) if name else None
        if path is not None:
            return Chromium(Path(path))
    raise ChromiumMissing(f"none of {', '.join(NAMES)} is on PATH (apt-get install chromium, or set VISAVIS_CHROMIUM)")
