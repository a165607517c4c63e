"""Who may come in: whom the avatar serves, how many streams, how fast, and whose turn it is to speak."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
from visavis.metrics import Metrics

from visavis_source_datastream.options import DataStreamOptions
from visavis_source_datastream.utterance import Line, News, Purse, Reader, Stir, Utterance
from visavis_source_datastream.wire import BYTES_PER_SAMPLE, Code, Refusal, read_format


class Door:
    """Lets streams in as utterances, in one line for each sender."""

    def __init__(
        self,
        options: DataStreamOptions,
        tell: Callable[[Utterance, News], None],
        serves: Callable[[str], bool],
        metrics: Metrics,
    ) -> None:
        self._options, self._tell, self._serves, self._metrics = options, tell, serves, metrics
        self._lines: dict[str, Line] = {}
        self._purse = Purse(int(options.max_buffered_mb * 1_000_000))
        self._order: list[Utterance] = []
        self.stir = Stir()
        """Stirs whenever another utterance may have its turn."""

    def utterances(self, identity: str | None = None) -> Iterator[Utterance]:
        """Those not finished, in the order in which they were opened; of one sender, or of all."""
        self._order = [u for u in self._order if u.result is None]
        return (u for u in list(self._order) if identity is None or u.line.identity == identity)

    def lines(self) -> list[Line]:
        """The lines of all senders."""
        return list(self._lines.values())

    def admit(self, reader: Reader, identity: str) -> Utterance:
        """Take a stream as an utterance; those of its sender that are still open end. Raises Refusal.

        One whose header is wrong is taken and refused at once: its sender hears of its end as of any other's.
        """
        if not self._serves(identity):
            raise Refusal(Code.NOT_SERVED, "this avatar speaks for another participant")
        line = self._line(identity)
        self._count(line)
        for earlier in self.utterances(identity):
            earlier.hurry()
        problem, most = None, 0
        try:
            heard = read_format(reader.info.attributes, self._options)
            most = int(self._options.max_segment_s * heard.rate) * heard.channels * BYTES_PER_SAMPLE
            if (reader.info.size or 0) > most:
                raise Refusal(Code.TOO_LONG, f"a stream may bring {self._options.max_segment_s:g} s of sound")
            if self._options.policy == "refuse" and self.others(line):
                raise Refusal(Code.FLOOR_TAKEN, "somebody else is speaking: try again when the avatar is silent")
        except Refusal as refusal:
            problem, heard = refusal, read_format({}, self._options)
        utterance = Utterance(line, reader.info.stream_id, heard, most, self._purse, self.stir)
        line.utterances.append(utterance)
        self._order.append(utterance)
        self._metrics.count("visavis_datastream_streams_total")
        if problem is not None:
            utterance.refuse(problem)
        return utterance

    def _line(self, identity: str) -> Line:
        self._lines = {k: v for k, v in self._lines.items() if v.utterances or not v.gone}
        if identity not in self._lines:
            self._lines[identity] = Line(identity, self._tell)
            self._lines[identity].tokens = float(self._options.max_streams)
        line = self._lines[identity]
        line.gone = False
        return line

    def _count(self, line: Line) -> None:
        """Raise Refusal if there are too many streams, or too many in too short a time."""
        now = anyio.current_time()
        rate, burst = self._options.max_streams_per_second, float(self._options.max_streams)
        line.tokens = min(burst, line.tokens + (now - line.refilled) * rate)
        line.refilled = now
        if line.tokens < 1:
            raise Refusal(Code.TOO_MANY_STREAMS, f"more than {rate:g} streams a second: open fewer")
        line.tokens -= 1
        if len(line.utterances) >= self._options.max_streams:
            raise Refusal(Code.TOO_MANY_STREAMS, f"{len(line.utterances)} streams wait already: send this one later")
        if len(list(self.utterances())) >= self._options.max_streams_total:
            raise Refusal(Code.TOO_MANY_STREAMS, "too many streams of others wait: send this one later")

    def left(self, identity: str) -> None:
        """A sender has left the room: nothing more is due from it; what it sent is still said."""
        for utterance in self.utterances(identity):
            utterance.hurry()
        if identity in self._lines:
            self._lines[identity].gone = True

    def came(self, identity: str) -> None:
        """A participant has come, back perhaps."""
        if identity in self._lines:
            self._lines[identity].gone = False

    def gone(self, identity: str) -> bool:
        """Whether a sender has left the room, as far as is known."""
        return identity in self._lines and self._lines[identity].gone

    def next(self) -> Utterance | None:
        """The utterance whose turn it is: the first that has something to say, of each sender in its own order."""
        passed: set[str] = set()
        for utterance in self.utterances():
            if utterance.taken:
                continue
            if utterance.line.identity not in passed and utterance.ready:
                return utterance
            passed.add(utterance.line.identity)
        return None

    def others(self, line: Line) -> set[str]:
        """Who else has something to say, or is saying it."""
        return {u.line.identity for u in self.utterances() if u.line is not line}

    def speaking(self, beside: Line) -> bool:
        """Whether somebody else has begun to say something and has not finished it."""
        return any(u.line is not beside and u.taken for u in self.utterances())
