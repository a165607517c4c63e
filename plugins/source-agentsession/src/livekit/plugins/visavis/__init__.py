"""visavis plugin for LiveKit Agents: a face for any agent.

from livekit.plugins import visavis

avatar = visavis.AvatarSession(avatar_id="mira", avatar_server_url="http://127.0.0.1:8080")
await avatar.start(session, room=ctx.room)
"""

from __future__ import annotations

from livekit.agents import Plugin
from livekit.plugins.visavis.log import logger
from livekit.plugins.visavis.version import __version__
from visavis_source_agentsession.avatar import AvatarAvailable, AvatarSession, AvatarUnavailable

__all__ = ["AvatarAvailable", "AvatarSession", "AvatarUnavailable", "VisavisPlugin", "__version__"]


class VisavisPlugin(Plugin):  # type: ignore[misc]
    """How livekit-agents knows this plugin."""

    def __init__(self) -> None:
        super().__init__(__name__, __version__, __package__, logger)


Plugin.register_plugin(VisavisPlugin())
