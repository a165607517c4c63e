"""What a viewer got: pictures, sound and events of every participant, with arrival times, in one file.

All times are seconds of ``time.monotonic``, which is one clock for all processes of a machine: what a test notes by
that clock may be compared with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

RATE: Final = 48_000
"""The rate at which viewers record sound, mono."""
GRID: Final = 8
"""Pictures are kept as the mean luma of so many rows and columns of blocks."""

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Pictures:
    """The pictures of one participant, in the order of arrival; placeholders (8x8 pixels) are left out.

    ``times`` float64 ``[n]``; ``sizes`` uint16 ``[n, 2]`` width and height; ``blocks`` uint8 ``[n, 8, 8]`` mean luma;
    ``chroma`` uint8 ``[n, 2]`` mean U and V.
    """

    times: Times
    sizes: NDArray[np.uint16]
    blocks: NDArray[np.uint8]
    chroma: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.times)

    def between(self, begin: float, end: float) -> Pictures:
        """Those that arrived in begin..end."""
        keep = (self.times >= begin) & (self.times < end)
        return Pictures(self.times[keep], self.sizes[keep], self.blocks[keep], self.chroma[keep])


@dataclass(frozen=True)
class Sound:
    """The sound of one participant as it was handed over, 10 ms at a time.

    ``times`` float64 ``[blocks]`` arrival; ``counts`` int64 ``[blocks]`` samples; ``pcm`` int16 ``[samples]``, 48 kHz,
    mono.
    """

    times: Times
    counts: NDArray[np.int64]
    pcm: NDArray[np.int16]

    @property
    def starts(self) -> NDArray[np.int64]:
        """The index of each block's first sample."""
        return np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64) if len(self.counts) else self.counts


@dataclass(frozen=True)
class Take:
    """What came from one participant."""

    room: str
    identity: str
    pictures: Pictures
    sound: Sound
    placeholders: int = 0


@dataclass(frozen=True)
class Recording:
    """All that a viewer got. ``stalls`` float64 ``[m, 2]``: when its own loop stood still; ``cpu`` in seconds.

    ``events`` are dicts with ``t``, ``event``, ``room``, ``identity`` and what belongs to them.
    """

    takes: Sequence[Take]
    events: Sequence[Mapping[str, Any]]
    stalls: Times
    cpu: float
    marks: Mapping[str, float] = field(default_factory=dict)

    def of(self, identity: str | None = None, room: str | None = None) -> Take:
        """The take of that participant (the only one, without a name). Raises KeyError naming who was there."""
        found = [t for t in self.takes if identity in (None, t.identity) and room in (None, t.room)]
        if len(found) != 1:
            have = ", ".join(f"{t.identity} in {t.room}" for t in self.takes) or "nobody"
            raise KeyError(f"{len(found)} takes of {identity or 'anybody'} in {room or 'any room'}; there were: {have}")
        return found[0]

    def when(self, event: str, identity: str | None = None) -> list[float]:
        """The times of all events of that name."""
        return [e["t"] for e in self.events if e["event"] == event and identity in (None, e.get("identity"))]

    def save(self, path: Path) -> None:
        """Write it as one npz."""
        about = {
            "takes": [[t.room, t.identity, t.placeholders] for t in self.takes],
            "events": list(self.events),
            "marks": dict(self.marks),
            "cpu": self.cpu,
        }
        arrays: dict[str, NDArray[Any]] = {"stalls": self.stalls}
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        for number, take in enumerate(self.takes):
            p, s = take.pictures, take.sound
            parts: list[NDArray[Any]] = [p.times, p.sizes, p.blocks, p.chroma, s.times, s.counts, s.pcm]
            arrays |= {f"{number}.{name}": part for name, part in zip(_PARTS, parts, strict=True)}
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path, marks: Mapping[str, float] | None = None) -> Recording:
        """Read what ``save`` wrote."""
        with np.load(path) as file:
            about = json.loads(file["about"].tobytes())
            takes = []
            for number, (room, identity, placeholders) in enumerate(about["takes"]):
                a = [file[f"{number}.{name}"] for name in _PARTS]
                takes.append(Take(room, identity, Pictures(*a[:4]), Sound(*a[4:]), placeholders))
            return cls(takes, about["events"], file["stalls"], about["cpu"], {**about["marks"], **(marks or {})})


_PARTS: Final = ("times", "sizes", "blocks", "chroma", "blocks_at", "counts", "pcm")
