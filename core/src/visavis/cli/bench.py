"""``visavis bench``: what a frame costs on this machine, beside the floor of the same run."""

from __future__ import annotations

import tempfile
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from visavis.cli.capacity import capacity
from visavis.cli.options import Config, Json, deployment_of, output_of

if TYPE_CHECKING:
    from visavis.measuring import Speed

RATE: Final = 16_000
FRAME: Final = "frame"
"""The command that `visavis bench` stands for where it is followed by no other's name."""


class _Benches(TyperGroup):
    """`visavis bench` measures a frame; the word after it may be the name of another bench."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = [FRAME, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Benches, help="How fast this machine is, and how many sessions it holds.", rich_markup_mode=None)


@app.command(FRAME)
def bench(
    ctx: typer.Context,
    speech: Annotated[Path | None, typer.Argument(metavar="[SPEECH]", help="A recording; without one, babble.")] = None,
    avatar: Annotated[str, typer.Option("--avatar", "-a", metavar="ID", help="Who speaks.")] = "mira",
    config: Config = None,
    seconds: Annotated[float, typer.Option("--seconds", help="How much babble.", min=1, max=600)] = 20.0,
    as_json: Json = False,
) -> None:
    """Measure what a frame costs here: the whole path, beside the encoding of ready frames alone.

    `visavis bench capacity` finds how many sessions this machine holds.
    """
    from visavis.cli.running import run_async
    from visavis.interfaces.session import SessionRequest
    from visavis.measuring import measure
    from visavis.plugins import Kind
    from visavis.registry import Registry
    from visavis.supervisor import Supervisor

    output = output_of(ctx)
    deployment = deployment_of(config, Registry.discover(), forced={Kind.SOURCE: "file", Kind.TRANSPORT: "file"})
    with tempfile.TemporaryDirectory(prefix="visavis-bench-") as folder:
        heard = speech or babble(Path(folder) / "babble.wav", seconds)
        out = {"path": str(Path(folder) / "out.mp4")}
        request = SessionRequest(avatar=avatar, source={"path": str(heard)}, transport=out)

        async def both() -> tuple[Speed, Speed]:
            async with Supervisor(deployment) as supervisor, supervisor.avatar(avatar):
                pass  # its clip is decoded once a machine: that is no frame's cost
            return await measure(deployment, request)

        with output.progress() as shown:
            if shown is not None:
                shown.add_task("measuring", total=None, told="the whole path, then the floor")
            whole, floor = run_async(both)
    about: dict[str, Any] = {"avatar": avatar, "renderer": deployment.renderer.name, "frames": whole.frames}
    if as_json:
        output.json({**about, "whole": _figures(whole), "floor": _figures(floor)})
        return
    output.result(f"{avatar}, {deployment.renderer.name}, {whole.frames} frames, {whole.media:.1f} s of sound")
    rows = [("", "ms a frame")]
    rows += [(stage, f"{spent:10.2f}") for stage, spent in whole.stages.items()]
    rows += [("whole path", f"{whole.frame_ms:10.2f}   {whole.realtime:.1f}x real time (processor time)")]
    rows += [("", f"{'':10}   {whole.media / whole.wall:.1f}x real time (wall clock)")]
    rows += [("floor: encoding ready frames", f"{floor.frame_ms:10.2f}   {floor.realtime:.1f}x real time")]
    output.rows(rows)


def _figures(speed: Speed) -> dict[str, Any]:
    return {
        "ms_a_frame": round(speed.frame_ms, 3),
        "stages_ms_a_frame": {stage: round(spent, 3) for stage, spent in speed.stages.items()},
        "times_real_time": round(speed.realtime, 2),
        "times_real_time_wall": round(speed.media / speed.wall, 2),
    }


def babble(path: Path, seconds: float) -> Path:
    """Write noise with a syllable's rhythm, which keeps a mouth as busy as speech does; 16 kHz, mono."""
    import numpy as np

    t = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).normal(0.0, 0.2, len(t))
    pcm = (noise * np.maximum(0.0, np.sin(2 * np.pi * 2.5 * t)) * 20_000).clip(-32_768, 32_767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())
    return path


app.command("capacity")(capacity)
