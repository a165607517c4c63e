"""The launcher keeps the promises of every launcher, through a real LiveKit server and a real worker."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

import pytest
from visavis.config import make_deployment
from visavis.config.deployment import SERVING_USE
from visavis.interfaces.session import SessionRequest
from visavis.registry import Registry
from visavis.testing import LauncherCase, LauncherKit, PackagingCase, PackagingKit
from visavis_launcher_livekit.launcher import DispatchLauncher


class TestPackaging(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-launcher-livekit")


class TestDispatch(LauncherKit):
    """All but one check: no room takes three seconds to join, so nobody can leave in the middle of it."""

    backends: ClassVar[tuple[str, ...]] = ("asyncio",)

    @pytest.fixture
    def launcher(self, works: Any) -> LauncherCase:
        sections = {
            "store": {"use": "filesystem", "root": str(works.avatars)},
            "limits": {"max_sessions": 3, "idle_timeout_s": None},
        }
        deployment = make_deployment(sections, Registry.discover(), defaults=SERVING_USE)

        def asks(avatar: str = "ada") -> SessionRequest:
            token = works.server.token("avatar", f"room-{secrets.token_hex(6)}", agent=True)
            return SessionRequest(avatar=avatar, transport={"url": works.server.url, "token": token})

        return LauncherCase(
            make=lambda: DispatchLauncher(works.options, deployment),
            most=3,
            request=asks,
            wrong=lambda: asks("nobody"),
            joined=lambda: works.joined,
            other="bob",
            patience=20.0,
        )
