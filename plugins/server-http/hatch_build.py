"""Builds: fetches LiveKit's JavaScript client for the page. Without npm or a network the build goes on without it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageClient(BuildHookInterface[Any]):
    """Puts the client beside the page's own files, in the source tree, so that editable installs have it too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Run before a wheel is built; ``version`` is ``standard`` or ``editable``, and both get the same."""
        vendor = self._vendor()
        try:
            vendor.fetch()
        except vendor.VendorError as problem:
            self.app.display_warning(f"visavis-server-http: its page will lack LiveKit's client: {problem}")

    def _vendor(self) -> ModuleType:
        """The module that knows the pins, loaded by its path: at build time the package is not installed."""
        path = Path(self.root) / "src" / "visavis_server_http" / "page" / "vendor.py"
        spec = importlib.util.spec_from_file_location("visavis_page_vendor", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
