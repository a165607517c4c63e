"""``visavis bench capacity``: how many sessions this machine holds, at real subscribers, and what limits it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.cli.options import Json, output_of

if TYPE_CHECKING:
    from visavis.capacity import Findings, Plan, Speech, Step
    from visavis.cli.output import Output
    from visavis.config import Deployment

BABBLE_SECONDS = 20.0


def capacity(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="A deployment file, as `visavis serve` takes it.")
    ] = None,
    avatar: Annotated[str, typer.Option("--avatar", "-a", metavar="ID", help="Who speaks.")] = "mira",
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="N", help="How long a step is measured.", min=1, max=3600)
    ] = 20.0,
    most: Annotated[
        int, typer.Option("--most", metavar="N", help="Try no more sessions than that.", min=1, max=10_000)
    ] = 64,
    late_percent: Annotated[
        float, typer.Option("--late-percent", metavar="P", help="Late frames that are allowed.", min=0, max=100)
    ] = 1.0,
    speech: Annotated[
        Path | None, typer.Option("--speech", metavar="WAV", help="What they say; without it, babble.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find how many sessions that talk all the time this machine holds, and what limits it.

    Each has a room and a subscriber of its own. Needs a transport with an audience (livekit: LIVEKIT_URL,
    LIVEKIT_API_KEY, LIVEKIT_API_SECRET). Steps double until too many frames are late, or a subscriber gets too few,
    then halve the interval: about half a minute each.
    """
    from visavis.capacity import Bounds, Plan
    from visavis.config import serving_deployment
    from visavis.registry import Registry

    output = output_of(ctx)
    deployment = serving_deployment(Registry.discover(), config)
    plan = Plan(avatar, said(speech), seconds, most, Bounds(late=late_percent / 100))
    found = _measured(output, deployment, plan)
    parts = {kind: part.name for kind in ("renderer", "launcher") if (part := getattr(deployment, kind)) is not None}
    about = {"avatar": avatar, **parts}
    if as_json:
        output.json({**about, **found.as_dict()})
        return
    output.rows(table(found))
    output.result("")
    output.rows(summary(found, about))


def _measured(output: Output, deployment: Deployment, plan: Plan) -> Findings:
    """Measure, and show how it goes on."""
    from visavis.capacity import measure_capacity
    from visavis.cli.running import run_async

    with output.progress() as shown:
        row = None if shown is None else shown.add_task(plan.avatar, total=None, told="getting ready")

        def tell(doing: str, step: Step | None) -> None:
            if step is not None:
                trouble = step.trouble(plan.bounds)
                output.tell(f"visavis: {_line(step)}{f'; {trouble}' if trouble else ''}")
            elif shown is not None and row is not None:
                shown.update(row, told=doing)
            elif output.verbose:
                output.tell(f"visavis: {doing}")

        return run_async(lambda: measure_capacity(deployment, plan, tell=tell))


def said(path: Path | None) -> Speech:
    """What is said: a WAV file of 16 bits, mixed to mono, or babble. Raises MediaError."""
    import tempfile
    import wave

    import numpy as np

    from visavis.capacity import Speech
    from visavis.cli.bench import babble
    from visavis.errors import MediaError

    if path is None:
        with tempfile.TemporaryDirectory(prefix="visavis-bench-") as folder:
            return said(babble(Path(folder) / "babble.wav", BABBLE_SECONDS))
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise MediaError(f"{path} cannot be read as a WAV file: {error}", hint="give a WAV file of 16 bits") from None
    if width != 2 or len(data) < 2 * channels:
        what = f"it has {8 * width} bits a sample" if width != 2 else "it is empty"
        raise MediaError(f"{path} cannot be spoken here: {what}", hint="give a WAV file of 16 bits")
    pcm = np.frombuffer(data, "<i2").reshape(-1, channels).mean(axis=1).astype(np.int16)
    return Speech(pcm, rate)


def _line(step: Step) -> str:
    late, each = 100 * step.late_share, step.cores_each
    return f"{step.sessions} sessions: {late:.2f} % late, {step.fps:.1f} fps at least, {each:.3f} cores a session"


def table(found: Findings) -> list[Sequence[str]]:
    """The steps, a row each, by their number of sessions."""
    rows: list[Sequence[str]] = [
        ("sessions", "late %", "fps", "gap ms", "cores", "a session", "renderer", "loop ms", "MB", "viewers", "machine",
         "auto", "")
    ]  # fmt: skip
    rows += [_row(step, step is found.held) for step in sorted(found.steps, key=lambda one: one.sessions)]
    return rows


def _row(step: Step, held: bool) -> Sequence[str]:
    return (
        f"{step.sessions}",
        f"{100 * step.late_share:.2f}",
        f"{step.fps:.1f}",
        f"{1000 * step.gap:.0f}",
        f"{step.cores:.2f}",
        f"{step.cores_each:.3f}",
        _or_dash(step.drawing, 100, "{:.0f} %"),
        _or_dash(step.behind, 1000, "{:.1f}"),
        f"{step.memory / 1e6:.0f}",
        f"{step.audience_cores:.2f}",
        f"{step.machine_cores:.2f}",
        _or_dash(step.admitted, 1, "{:.0f}"),
        "<- held" if held else "",
    )


def _or_dash(value: float | None, times: float, form: str) -> str:
    return "-" if value is None else form.format(times * value)


def summary(found: Findings, about: dict[str, Any]) -> list[Sequence[str]]:
    """What it comes to."""
    held, floor = found.held, found.floor
    talking = held or min(found.steps, key=lambda step: step.sessions)
    rows: list[Sequence[str]] = [
        ("sessions held", str(held.sessions if held else 0), ", ".join(about.values())),
        ("limited by", found.verdict.stage.value, found.verdict.said),
    ]
    if held is not None:
        auto = "-" if held.admitted is None else str(held.admitted)
        rows += [
            ("a core", f"{1 / held.cores_each:.1f}", f"sessions; of {found.machine} cores, less viewers and LiveKit"),
            ("a worker", f"{held.sessions / held.workers:.1f}", f"sessions; {held.workers} with a renderer of its own"),
            ("auto", auto, "sessions would `limits.max_sessions: auto` take on, by what it saw"),
        ]
    others = max(step.other_cores for step in found.steps)
    rows.append(
        ("others", f"{others:.2f}", "cores at most, used on this machine beside: LiveKit, if it is here; strangers")
    )
    for name, memory in (("first session", found.memory_first), ("each further", found.memory_each)):
        if memory is not None:
            rows.append((name, f"{memory / 1e6:.1f}", "MB of memory of its own (USS)"))
    for name, cores, least in (("talking", talking.cores_each, floor.talking), ("silent", found.idle, floor.idle)):
        if cores is not None:
            rows.append((name, f"{cores:.3f}", f"cores a session; {least:.3f} the floor, which shows ready pictures"))
    return rows
