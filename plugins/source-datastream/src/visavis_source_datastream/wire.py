"""The words of the protocol: topics, methods, what a stream's header says, and how a refusal reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from visavis.media import AudioFormat

from visavis_source_datastream.options import DataStreamOptions

AUDIO_TOPIC: Final = "lk.audio_stream"
"""The byte streams' topic: one stream is one segment, int16 little-endian, channels interleaved."""
ERROR_TOPIC: Final = "visavis.error"
"""The topic of the text stream that tells a sender why its stream was refused."""
CLEAR_BUFFER: Final = "lk.clear_buffer"
PLAYBACK_STARTED: Final = "lk.playback_started"
PLAYBACK_FINISHED: Final = "lk.playback_finished"
STATES: Final = ("user_state_changed", "agent_state_changed")
"""Methods by which agents tell an avatar how the conversation goes; their payload is one word."""
ON_BEHALF: Final = "lk.publish_on_behalf"
"""The participant attribute that names whom the avatar speaks for."""

BYTES_PER_SAMPLE: Final = 2


class Code(StrEnum):
    """Why a stream or a call was refused, for machines."""

    NOT_SERVED = "NOT_SERVED"
    """The avatar speaks for somebody else."""
    BAD_FORMAT = "BAD_FORMAT"
    """The header names a rate or a number of channels that cannot be."""
    TOO_LONG = "TOO_LONG"
    """More sound than one stream may bring."""
    TOO_MUCH_WAITS = "TOO_MUCH_WAITS"
    """More bytes than may wait to be spoken."""
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    """More streams than may be open, or than may be opened in a second."""
    FLOOR_TAKEN = "FLOOR_TAKEN"
    """Somebody else is speaking, and the deployment's policy is to refuse."""
    STALLED = "STALLED"
    """An open stream brought nothing for too long; what it had brought was spoken."""


class Refusal(Exception):  # noqa: N818 - it is named after what it says
    """A stream is not taken (any further): a code and a sentence for its sender."""

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence

    def text(self, stream: str) -> str:
        """What the sender is sent: JSON with ``error``, ``code`` and ``details``."""
        return json.dumps({"error": self.sentence, "code": self.code.value, "details": {"stream_id": stream}})


def read_format(attributes: Mapping[str, str] | None, options: DataStreamOptions) -> AudioFormat:
    """The format that a header's attributes name; what they leave out or leave empty is the deployment's default.

    Raises Refusal for what is no number or impossible.
    """
    given = attributes or {}
    rate = _whole(given, "sample_rate", options.sample_rate)
    channels = _whole(given, "num_channels", options.num_channels)
    try:
        return AudioFormat(rate, channels)
    except ValueError as error:
        raise Refusal(Code.BAD_FORMAT, f"{error}; name them in the attributes sample_rate and num_channels") from None


def _whole(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
        if not number.is_integer():  # infinity and NaN are none either
            raise ValueError
    except (ValueError, OverflowError):
        raise Refusal(Code.BAD_FORMAT, f"the attribute {name} is {_short(text)}, not a whole number") from None
    return int(number)


def _short(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def finished(position: float, *, interrupted: bool) -> str:
    """The payload of ``lk.playback_finished``."""
    return json.dumps({"playback_position": position, "interrupted": interrupted})
