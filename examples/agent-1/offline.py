"""Ears, wits and a voice without any cloud: for trying the agent out, and for its tests.

They stand where the models of LiveKit Inference stand; the agent's own code is the same. What the user says is not
understood: that somebody spoke, and when, is real (the VAD decides), the words come from a script.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import uuid
import wave
from collections.abc import Iterator
from typing import Any

import anyio
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, llm, stt, tts
from livekit.agents.language import LanguageCode

HEARD = ("Hello, who are you?", "Tell me more, please.", "Thank you, that is all.")
SAID = (
    "Hello, I am Mira. I can tell you about faces.",
    "I am a face for a voice: whatever is said, my lips follow the sound of it, and you may interrupt me whenever you "
    "like. That is what I wanted to tell you, and there is a little more of it, so that you have time to do so.",
    "You are welcome. Good bye.",
)
VOICE = os.environ.get("ESPEAK_VOICE", "en-gb")


def _script(lines: tuple[str, ...]) -> Iterator[str]:
    return itertools.chain(lines, itertools.repeat(lines[-1]))


class ScriptedEars(stt.STT[Any]):
    """Takes every utterance for the next line of the script."""

    def __init__(self, lines: tuple[str, ...] = HEARD) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self._lines = _script(lines)

    async def _recognize_impl(
        self, buffer: Any, *, language: Any = None, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> stt.SpeechEvent:
        heard = stt.SpeechData(language=LanguageCode("en"), text=next(self._lines), confidence=1.0)
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[heard])


class ScriptedWits(llm.LLM[Any]):
    """Answers with the next line of the script."""

    def __init__(self, lines: tuple[str, ...] = SAID) -> None:
        super().__init__()
        self._lines = _script(lines)

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **_: Any,
    ) -> llm.LLMStream:
        """The next line, a word at a time."""
        return _Line(self, next(self._lines), chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Line(llm.LLMStream):
    def __init__(self, wits: ScriptedWits, line: str, **given: Any) -> None:
        super().__init__(wits, **given)
        self._line = line

    async def _run(self) -> None:
        for word in self._line.split(" "):
            delta = llm.ChoiceDelta(role="assistant", content=word + " ")
            self._event_ch.send_nowait(llm.ChatChunk(id=uuid.uuid4().hex, delta=delta))


class EspeakVoice(tts.TTS[Any]):
    """espeak-ng, 22,050 Hz, mono."""

    RATE = 22_050

    def __init__(self, voice: str = VOICE) -> None:
        if shutil.which("espeak-ng") is None:
            raise RuntimeError("espeak-ng is not installed; on Debian: apt-get install espeak-ng")
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=self.RATE, num_channels=1)
        self.voice = voice

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Speak a sentence."""
        return _Sentence(tts=self, input_text=text, conn_options=conn_options)


class _Sentence(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, EspeakVoice)
        command = ["espeak-ng", "-v", voice.voice, "--stdin", "--stdout"]
        spoken = await anyio.run_process(command, input=self.input_text.encode())
        with wave.open(io.BytesIO(spoken.stdout)) as file:  # its header names no length: it was written to a pipe
            rate, pcm = file.getframerate(), file.readframes(2**30)
        output_emitter.initialize(request_id=uuid.uuid4().hex, sample_rate=rate, num_channels=1, mime_type="audio/pcm")
        output_emitter.push(pcm)
        output_emitter.flush()
