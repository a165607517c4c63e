"""What is installed, what it imports, and what is said to those who use it wrongly."""

from __future__ import annotations

import subprocess
import sys

import pytest
from livekit import rtc
from livekit.agents import Plugin
from livekit.agents.voice.avatar import AvatarSession as BaseAvatarSession
from livekit.plugins import visavis
from visavis.errors import SessionError
from visavis.interfaces.session import SessionContext, SessionRequest
from visavis.testing import PackagingCase, PackagingKit
from visavis_source_agentsession.source import AgentSessionSource


class TestDistribution(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-source-agentsession")


def test_livekit_knows_it() -> None:
    plugin = next(p for p in Plugin.registered_plugins if p.package == "livekit.plugins.visavis")
    assert plugin.version == visavis.__version__
    assert plugin.logger is not None
    assert issubclass(visavis.AvatarSession, BaseAvatarSession)


def test_an_agent_whose_avatar_is_elsewhere_loads_no_pipeline() -> None:
    """livekit-agents brings PyAV itself; onnxruntime, our renderers and our pipeline are not among what we add."""
    code = (
        "import sys, livekit.agents; before = set(sys.modules)\n"
        "from livekit.plugins import visavis\n"
        "visavis.AvatarSession(avatar_id='mira', avatar_server_url='http://127.0.0.1:1')\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before}, '|', *sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    added, _, loaded = ran.stdout.partition("|")
    assert "visavis_source_agentsession" in added
    names = set(loaded.split())
    assert not {name.partition(".")[0] for name in names} & {"onnxruntime", "onnx", "cv2", "soxr", "torch"}
    ours = {name for name in names if name.startswith("visavis")}
    assert not [name for name in ours if "renderer" in name or name.startswith(("visavis.pipeline", "visavis.config"))]
    assert not [name for name in added.split() if name in ("scipy", "av", "PIL")]


def test_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VISAVIS_URL", "VISAVIS_AVATAR_ID", "VISAVIS_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="VISAVIS_AVATAR_ID"):
        visavis.AvatarSession()
    with pytest.raises(ValueError, match="VISAVIS_URL"):
        visavis.AvatarSession(avatar_id="mira")
    with pytest.raises(ValueError, match="not both"):
        visavis.AvatarSession(avatar="mira", avatar_server_url="http://127.0.0.1:1")
    monkeypatch.setenv("VISAVIS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("VISAVIS_AVATAR_ID", "mira")
    avatar = visavis.AvatarSession()
    assert avatar.provider == "visavis"
    assert avatar.avatar_identity != visavis.AvatarSession().avatar_identity


@pytest.mark.anyio
async def test_the_room_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from livekit.agents import AgentSession

    for name in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    avatar = visavis.AvatarSession(avatar_id="mira", avatar_server_url="http://127.0.0.1:1")
    session: AgentSession[None] = AgentSession()
    with pytest.raises(ValueError, match="LIVEKIT_URL"):
        await avatar.start(session, rtc.Room())
    with pytest.raises(RuntimeError, match="connect the room"):
        await avatar.start(session, rtc.Room(), livekit_url="ws://x", livekit_api_key="k", livekit_api_secret="s" * 32)
    await avatar.aclose()
    await avatar.aclose()


@pytest.mark.anyio
async def test_without_an_agent_there_is_nothing_to_say() -> None:
    with pytest.raises(SessionError, match="runs no agent"):
        await AgentSessionSource().prepare(SessionContext("s", SessionRequest()))
