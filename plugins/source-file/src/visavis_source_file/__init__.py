"""An audio source for visavis: speech from a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from visavis_source_file.options import FileSourceOptions

if TYPE_CHECKING:
    from visavis_source_file.recording import Probe

__all__ = ["FileSourceOptions", "probe"]


def probe(path: str | os.PathLike[str]) -> Probe:
    """What a recording holds: rate, channels, length in seconds if it is known, codec. Blocking.

    Raises MediaError for what cannot be played.
    """
    # The decoder is imported when it is needed: listing plugins stays quick.
    from visavis_source_file.recording import probe as probe_recording

    return probe_recording(path)
