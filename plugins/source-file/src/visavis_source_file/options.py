"""The options of the file source."""

from __future__ import annotations

from pathlib import Path

from visavis.component import ComponentConfig


class FileSourceOptions(ComponentConfig):
    """What a session tells the file source."""

    path: Path
    """The recording: any audio, or video with sound, that FFmpeg reads."""
    strict: bool = False
    """Refuse a recording that is cut short or damaged, instead of playing what decodes."""
