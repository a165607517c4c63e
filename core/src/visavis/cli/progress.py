"""A session under the command line: with a progress bar where there is a terminal."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from visavis.cli.running import run_async
from visavis.supervisor import run_session
from visavis.workers import settle

if TYPE_CHECKING:
    from visavis.cli.output import Output
    from visavis.config import Deployment
    from visavis.interfaces.session import SessionRequest, SessionStats
    from visavis.session import Session


def run_shown(
    output: Output, deployment: Deployment, request: SessionRequest, seconds: float | None
) -> tuple[SessionStats, float]:
    """Run a session; returns its figures and the seconds it took. ``seconds`` of speech are expected, if known.

    A signal ends a live session by plan, so that the room is told why; others are cancelled.
    """
    started = time.monotonic()
    held: list[Session] = []

    async def stop() -> bool:
        if not held or not held[0].live:
            return False
        await held[0].close("stopped by its operator")
        return True

    def begun(session: Session) -> None:
        held.append(session)
        if session.live:
            settle()

    run = partial(run_session, deployment, request, on_session=begun)
    with output.progress() as shown:
        if shown is None:
            stats = run_async(run, stop=stop)
        else:
            row = shown.add_task(request.avatar, total=seconds, told="loading")

            def tell(figures: SessionStats) -> None:
                told = _told(figures, time.monotonic() - started, live=bool(held) and held[0].live)
                shown.update(row, completed=figures.shown, told=told)

            stats = run_async(partial(run, on_progress=tell), stop=stop)
    return stats, time.monotonic() - started


def _told(figures: SessionStats, wall: float, *, live: bool) -> str:
    if not figures.frames:
        return "loading"
    if live:
        late = f", {figures.late_frames} late" if figures.late_frames else ""
        return f"live for {figures.shown:.0f} s, {figures.segments} said{late}"
    return f"{figures.shown:.1f} s, {figures.shown / wall:.1f}x real time"


def seconds_of(recording: Path) -> float | None:
    """How long a recording says it is, for the progress bar; None if that cannot be told (an error comes later)."""
    try:
        import av

        with av.open(str(recording), options={"protocol_whitelist": "file"}) as opened:
            return opened.duration / 1_000_000 if opened.duration else None
    except (ImportError, OSError, ValueError):
        return None
