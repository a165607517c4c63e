"""Real worker processes: killed, hung for 30 s, leaking; what they log and count reaches their parent."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import psutil
import pytest
from visavis.config import make_deployment
from visavis.errors import PluginError, SessionError
from visavis.interfaces.session import SessionHandle, SessionRequest
from visavis.metrics import MemoryMetrics
from visavis.processes.launcher import ProcessLauncher
from visavis.processes.options import ProcessOptions
from visavis.registry import Registry
from visavis.testing.tiny import tiny_avatar

pytestmark = pytest.mark.anyio

RATE = 16_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Rig:
    """A launcher of real processes whose renderer does what a file says."""

    def __init__(self, folder: Path, transport: str = "test-rooms", **options: Any) -> None:
        self.mood, self.notes = folder / "mood", folder / "notes"
        (folder / "avatars").mkdir()
        tiny_avatar(folder / "avatars" / "tiny.hvia")
        deployment = make_deployment(
            {
                "store": {"use": "filesystem", "root": str(folder / "avatars")},
                "source": {"use": "test-silence"},
                "renderer": {"use": "test-moody", "mood": str(self.mood)},
                "transport": {"use": transport, "notes": str(self.notes)},
                "limits": {"max_sessions": 20},
            },
            Registry.discover(),
        )
        self.metrics = MemoryMetrics()
        self.launcher = ProcessLauncher(ProcessOptions(workers=2, **options), deployment, metrics=self.metrics)

    async def start(self, **room: str) -> SessionHandle:
        return await self.launcher.start(SessionRequest(avatar="tiny", transport=room))

    def feel(self, mood: str) -> None:
        (self.mood.with_suffix(".new")).write_text(mood)
        self.mood.with_suffix(".new").rename(self.mood)

    def pid(self, handle: SessionHandle) -> int:
        (employee,) = [e for e in self.launcher._employees if handle.id in e.worker.sessions]
        return employee.process.pid


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - a count is polled, no event tells of it
            await anyio.sleep(0.05)


async def says(handle: SessionHandle, seconds: float = 0.3) -> None:
    stream = await handle.speak(RATE)
    await stream.write(np.full(int(seconds * RATE), 0.1, np.float32))
    await stream.end()
    finish = await stream.wait_finished()
    assert (finish.samples, finish.interrupted) == (int(seconds * RATE), False)


async def test_a_killed_process_takes_only_its_own_sessions_along(
    parts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path)
    caplog.set_level(logging.INFO)
    async with rig.launcher:
        handles = [await rig.start() for _ in range(4)]
        lost = [h for h in handles if rig.pid(h) == rig.pid(handles[0])]
        kept = {h.id: rig.pid(h) for h in handles if h not in lost}
        assert len(lost) == len(kept) == 2
        await says(lost[0])
        await until(lambda: all(rig.launcher._sessions[h.id].notes for h in handles))
        dead = rig.pid(handles[0])
        os.kill(dead, signal.SIGKILL)
        await until(lambda: rig.metrics.total("visavis_sessions_begun_again_total") == 2)
        for handle in handles:
            await says(handle)
        assert {h.id: rig.pid(h) for h in handles if h.id in kept} == kept
        # The successor has what its predecessor left, and the same id.
        left = [line for line in rig.notes.read_text().splitlines() if f"'pid': {dead}" in line]
        assert sorted(line.split()[0] for line in left) == sorted(h.id for h in lost)
        with pytest.raises(SessionError, match="gone"):
            await rig.start(room="deadly")
        await until(lambda: len(rig.launcher.workers) == 2)
        for handle in handles:
            await until(lambda handle=handle: any(handle.id in w.sessions for w in rig.launcher.workers))
        assert (await rig.launcher.capacity()).running == 4
        await until(lambda: rig.metrics.gauges.get(rig.metrics.key("visavis_sessions")) == 4)
    assert rig.metrics.total("visavis_frames_total") > 0
    assert rig.metrics.mean("visavis_step_seconds") > 0
    assert not [child for child in psutil.Process().children() if "visavis.processes" in " ".join(child.cmdline())]


async def test_a_renderer_that_sleeps_is_a_hung_worker(parts: Path, tmp_path: Path) -> None:
    rig = Rig(tmp_path, hang_s=5)  # a busy machine stands still for a second or two
    async with rig.launcher:
        handles = [await rig.start() for _ in range(2)]
        pids = {h.id: rig.pid(h) for h in handles}
        rig.feel("sleep")
        await until(lambda: rig.metrics.total("visavis_sessions_begun_again_total") == 1)
        for handle in handles:
            await says(handle)
        moved = [h for h in handles if rig.pid(h) != pids[h.id]]
        assert len(moved) == 1
        with pytest.raises(ProcessLookupError):
            os.kill(pids[moved[0].id], 0)


async def test_a_worker_that_leaks_is_recycled(parts: Path, tmp_path: Path) -> None:
    rig = Rig(tmp_path, recycle_growth_mb=150)
    async with rig.launcher:
        handle = await rig.start()
        old = rig.pid(handle)
        rig.feel("leak")
        await until(lambda: rig.metrics.total("visavis_workers_recycled_total") == 1)
        await says(handle)
        assert rig.pid(handle) == old  # it stays until it is over
        await handle.close()
        await handle.wait()
        await until(lambda: not psutil.pid_exists(old))
        assert rig.metrics.total("visavis_workers_lost_total") == 0
        await says(await rig.start())


async def test_what_cannot_be_continued_is_reported(parts: Path, tmp_path: Path) -> None:
    rig = Rig(tmp_path, transport="test-halls")
    async with rig.launcher:
        handle = await rig.start()
        stream = await handle.speak(RATE)
        await stream.write(np.full(RATE // 4, 0.1, np.float32))
        assert await stream.wait_started()
        os.kill(rig.pid(handle), signal.SIGKILL)
        assert (await stream.wait_finished()).interrupted
        with pytest.raises(SessionError, match="cannot be continued"):
            await handle.wait()


async def test_workers_log_with_their_session(parts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(tmp_path)
    caplog.set_level(logging.DEBUG, "visavis")
    async with rig.launcher:
        handle = await rig.start()
        await says(handle)

        def told() -> list[logging.LogRecord]:
            return [r for r in caplog.records if r.name == "visavis.segment" and "finished" in r.getMessage()]

        await until(lambda: bool(told()))
    (record,) = told()
    assert record.__dict__["session"] == handle.id
    assert record.__dict__["worker"] in ("0.1", "1.2", "0.2", "1.1")


async def test_a_part_that_workers_do_not_have_is_named(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path)
    monkeypatch.delenv("PYTHONPATH")
    with pytest.raises(PluginError, match="no source named 'test-silence' is installed"):
        async with rig.launcher:
            pytest.fail("it was entered")
