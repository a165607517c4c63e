"""The plugin's version: that of its distribution."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("visavis-source-agentsession")
