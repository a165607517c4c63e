"""The options of the file transport."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from visavis.component import ComponentConfig
from visavis.interfaces.transport import Pacing


class FileTransportOptions(ComponentConfig):
    """How files are made: the same for all sessions."""

    encoder: str = "auto"
    """FFmpeg's name of the video encoder; auto is libx264, and libvpx-vp9 for .webm."""
    preset: str = "veryfast"
    """libx264's trade of time against size, ultrafast to veryslow. Other encoders ignore it."""
    crf: int = Field(default=18, ge=0, le=63)
    """Quality of the picture: lower is better and larger. About 0..51 for H.264, 0..63 for VP8 and VP9."""
    threads: int = Field(default=1, ge=1, le=64)
    """Threads of the video encoder. With one the same input gives the same file, byte for byte."""
    audio_bit_rate: int | None = Field(default=None, ge=8_000, le=1_000_000)
    """Bits a second of sound; by default 128,000 for one or two channels and 64,000 for each further one."""
    pacing: Pacing = Pacing.ASAP
    """asap writes as fast as frames come; realtime keeps the media clock, as a room would."""


class FileSessionOptions(ComponentConfig):
    """Where a session's video goes."""

    path: Path
    """The file to write: .mp4, .mov, .mkv or .webm. An existing one is replaced once the new one is complete."""
