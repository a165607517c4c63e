"""The avatar file: ``hvia/1``, an open format. docs/hvia.md specifies it."""

from __future__ import annotations

from visavis.hvia.limits import LIMITS, Limits
from visavis.hvia.manifest import ENGINE, FORMAT, Clip, Face, Manifest, Motion, Precision, manifest_schema
from visavis.hvia.placement import Placement
from visavis.hvia.profiles import ARKIT_52
from visavis.hvia.reader import Hvia, open_hvia
from visavis.hvia.validation import Finding, check_hvia, validate_hvia
from visavis.hvia.writer import pack_folder, write_hvia

__all__ = [
    "ARKIT_52",
    "ENGINE",
    "FORMAT",
    "LIMITS",
    "Clip",
    "Face",
    "Finding",
    "Hvia",
    "Limits",
    "Manifest",
    "Motion",
    "Placement",
    "Precision",
    "check_hvia",
    "manifest_schema",
    "open_hvia",
    "pack_folder",
    "validate_hvia",
    "write_hvia",
]
