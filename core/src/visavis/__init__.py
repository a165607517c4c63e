"""visavis gives any voice a face: speech in, a lip-synced video of an avatar out.

The public names. Everything else is reached through its module: ``visavis.interfaces``, ``visavis.hookspecs``,
``visavis.plugins``, ``visavis.hvia``, ``visavis.testing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavis.errors import VisavisError as VisavisError
    from visavis.media import AudioFormat as AudioFormat
    from visavis.media import PairedFrame as PairedFrame
    from visavis.media import VideoFrame as VideoFrame
    from visavis.speaking import Speaker as Speaker
    from visavis.speaking import speak as speak

__version__ = "0.1.0"

_HOME = {
    "AudioFormat": "visavis.media",
    "PairedFrame": "visavis.media",
    "Speaker": "visavis.speaking",
    "VideoFrame": "visavis.media",
    "VisavisError": "visavis.errors",
    "speak": "visavis.speaking",
}

__all__ = ["AudioFormat", "PairedFrame", "Speaker", "VideoFrame", "VisavisError", "__version__", "speak"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``visavis --help`` need not load numpy."""
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'visavis' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
