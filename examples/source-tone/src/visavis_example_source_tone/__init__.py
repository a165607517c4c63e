"""An audio source for visavis: a hum with the rhythm of syllables."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field
from visavis.component import ComponentConfig
from visavis.hookspecs import hookimpl
from visavis.interfaces.source import AudioSource, SpeechWriter
from visavis.plugins import AudioSourcePlugin

RATE = 24_000


class ToneOptions(ComponentConfig):
    """What a session may choose."""

    seconds: float = Field(default=3.0, gt=0, le=3600)
    """How long it hums."""
    pitch: float = Field(default=120.0, ge=40, le=500)
    """Its voice, in Hz."""


class ToneSource(AudioSource):
    """Hums one segment: eight harmonics, four syllables a second."""

    def __init__(self, options: ToneOptions) -> None:
        self.options = options

    async def run(self, speech: SpeechWriter) -> None:
        """Write the hum in pieces of 100 ms; ``write`` waits while the pipeline is full."""
        stream = await speech.open(RATE)
        end = round(self.options.seconds * RATE)
        for start in range(0, end, RATE // 10):
            t = np.arange(start, min(start + RATE // 10, end)) / RATE
            voice = sum(np.sin(2 * np.pi * self.options.pitch * k * t) / k for k in range(1, 9))
            await stream.write(0.3 * voice * np.sin(4 * np.pi * t) ** 2)
        await stream.end()


@hookimpl
def visavis_audio_sources() -> Iterator[AudioSourcePlugin]:
    """What the entry point in pyproject.toml leads to."""
    summary = "A hum with the rhythm of syllables."
    yield AudioSourcePlugin(name="tone", summary=summary, session=ToneOptions, factory=lambda _, o: ToneSource(o))
