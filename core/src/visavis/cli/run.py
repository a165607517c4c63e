"""``visavis run``: run the session of a deployment file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.cli.options import Json, output_of
from visavis.errors import BadInput

if TYPE_CHECKING:
    from visavis.interfaces.session import SessionStats


def run(
    ctx: typer.Context,
    deployment: Annotated[Path, typer.Argument(metavar="DEPLOYMENT.yaml", help="What to run; see `visavis check`.")],
    as_json: Json = False,
) -> None:
    """Run the session that a deployment file describes, to its end.

    A session in a room lasts until the room or Ctrl-C ends it.
    """
    from visavis.cli.progress import run_shown
    from visavis.config import load_deployment
    from visavis.registry import Registry

    output = output_of(ctx)
    loaded = load_deployment(deployment, Registry.discover())
    for part in loaded.parts():
        if part.record.host:
            raise BadInput(f"the {part.kind.value} {part.name!r} cannot be run from here", hint=part.record.host)
    if loaded.session is None:
        raise BadInput(
            f"{deployment} has no section `session`, so there is nothing to run",
            hint="add one, such as `session: {avatar: mira, source: {...}, transport: {...}}`",
        )
    stats, wall = run_shown(output, loaded, loaded.session, None)
    if as_json:
        output.json({"deployment": str(deployment), **figures(stats, wall), "warnings": output.warnings})
    else:
        output.tell(f"visavis: {summary(stats, wall)}")


def figures(stats: SessionStats, wall: float) -> dict[str, float | int | str | None]:
    """A session's figures for scripts."""
    return {
        "frames": stats.frames,
        "dropped_frames": stats.dropped_frames,
        "late_frames": stats.late_frames,
        "segments": stats.segments,
        "seconds_spoken": round(stats.spoken, 4),
        "seconds_shown": round(stats.shown, 4),
        "seconds_to_first_frame": None if stats.first_frame is None else round(stats.first_frame, 4),
        "seconds_taken": round(wall, 3),
        "ended": stats.reason,
    }


def summary(stats: SessionStats, wall: float) -> str:
    """A session's figures for people."""
    if stats.idle_frames:
        late = f", {stats.late_frames} of {stats.frames} frames late" if stats.late_frames else ""
        return f"{stats.shown:.1f} s live, {stats.spoken:.2f} s of speech{late}; it ended: {stats.reason}"
    speed = f", {stats.spoken / wall:.1f}x real time" if wall > 0 else ""
    return f"{stats.spoken:.2f} s of speech in {stats.frames} frames, took {wall:.1f} s{speed}"
