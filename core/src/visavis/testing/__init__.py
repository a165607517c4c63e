"""The conformance kit for plugin authors: pip install visavis[testing].

    from visavis.testing import SourceCase, SourceKit

    class TestTone(SourceKit):
        @pytest.fixture
        def source(self):
            return SourceCase(make=lambda: ToneSource(seconds=0.5))

docs/conformance.md tells more. Nothing of the product imports this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavis.testing.checks import Check as Check
    from visavis.testing.checks import ConformanceFailure as ConformanceFailure
    from visavis.testing.films import read_film as read_film
    from visavis.testing.kit import xfail as xfail
    from visavis.testing.kits import LauncherKit as LauncherKit
    from visavis.testing.kits import PackagingKit as PackagingKit
    from visavis.testing.kits import RendererKit as RendererKit
    from visavis.testing.kits import SourceKit as SourceKit
    from visavis.testing.kits import StoreKit as StoreKit
    from visavis.testing.kits import TransportKit as TransportKit
    from visavis.testing.launcher import LauncherCase as LauncherCase
    from visavis.testing.packaging import PackagingCase as PackagingCase
    from visavis.testing.rig import RendererCase as RendererCase
    from visavis.testing.signals import Readback as Readback
    from visavis.testing.source import SourceCase as SourceCase
    from visavis.testing.store import StoreCase as StoreCase
    from visavis.testing.tiny import tiny_avatar as tiny_avatar
    from visavis.testing.way_out import TransportCase as TransportCase

_HOME = {
    "Check": "visavis.testing.checks",
    "ConformanceFailure": "visavis.testing.checks",
    "LauncherCase": "visavis.testing.launcher",
    "LauncherKit": "visavis.testing.kits",
    "PackagingCase": "visavis.testing.packaging",
    "PackagingKit": "visavis.testing.kits",
    "Readback": "visavis.testing.signals",
    "RendererCase": "visavis.testing.rig",
    "RendererKit": "visavis.testing.kits",
    "SourceCase": "visavis.testing.source",
    "SourceKit": "visavis.testing.kits",
    "StoreCase": "visavis.testing.store",
    "StoreKit": "visavis.testing.kits",
    "TransportCase": "visavis.testing.way_out",
    "TransportKit": "visavis.testing.kits",
    "read_film": "visavis.testing.films",
    "tiny_avatar": "visavis.testing.tiny",
    "xfail": "visavis.testing.kit",
}

__all__ = [
    "Check",
    "ConformanceFailure",
    "LauncherCase",
    "LauncherKit",
    "PackagingCase",
    "PackagingKit",
    "Readback",
    "RendererCase",
    "RendererKit",
    "SourceCase",
    "SourceKit",
    "StoreCase",
    "StoreKit",
    "TransportCase",
    "TransportKit",
    "read_film",
    "tiny_avatar",
    "xfail",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: pytest, onnx and PyAV are not needed for all of them."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'visavis.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
