"""The launcher ``process`` keeps the promises of every launcher: with workers that are tasks, and with processes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from visavis.config import make_deployment
from visavis.interfaces.session import SessionRequest
from visavis.processes.launcher import ProcessLauncher
from visavis.processes.options import ProcessOptions
from visavis.registry import Registry
from visavis.testing import LauncherCase, LauncherKit
from visavis.testing.crew import Crew
from visavis.testing.saboteurs import launcher as fakes
from visavis.testing.tiny import tiny_avatar


class TestTasks(LauncherKit):
    @pytest.fixture
    def launcher(self, tmp_path: Path) -> LauncherCase:
        case = fakes.correct(tmp_path)
        rooms = fakes.Rooms()
        deployment = fakes.deployment(rooms)
        case.make = lambda: ProcessLauncher(ProcessOptions(workers=2), deployment, hire=Crew(deployment).hire)
        case.joined = lambda: len(rooms.made)
        return case


class TestProcesses(LauncherKit):
    backends: ClassVar[tuple[str, ...]] = ("asyncio",)

    @pytest.fixture
    def launcher(self, parts: Path, tmp_path: Path) -> LauncherCase:
        (tmp_path / "avatars").mkdir()
        for number, name in enumerate(("ada", "bob")):
            tiny_avatar(tmp_path / "avatars" / f"{name}.hvia", seed=number)
        deployment = make_deployment(
            {
                "store": {"use": "filesystem", "root": str(tmp_path / "avatars")},
                "source": {"use": "test-silence"},
                "renderer": {"use": "onnxruntime", "threads": 1},
                "transport": {"use": "test-rooms", "joined": str(tmp_path / "joined")},
                "limits": {"max_sessions": 3, "idle_timeout_s": None},
            },
            Registry.discover(),
        )

        def asks(**room: str) -> SessionRequest:
            return SessionRequest(avatar="ada", transport=room)

        def joined() -> int:
            return (tmp_path / "joined").stat().st_size if (tmp_path / "joined").exists() else 0

        return LauncherCase(
            make=lambda: ProcessLauncher(ProcessOptions(workers=2), deployment),
            most=3,
            request=asks,
            wrong=lambda: asks(room="closed"),
            slow=lambda: asks(room="slow"),
            joined=joined,
            other="bob",
            patience=20.0,  # a busy machine
        )
