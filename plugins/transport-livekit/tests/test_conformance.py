"""The LiveKit transport does what every transport must, in a real room."""

from __future__ import annotations

import secrets

import pytest
from pydantic import SecretStr
from visavis.testing import PackagingCase, PackagingKit, TransportCase, TransportKit
from visavis.testing.livekit.server import LiveKitServer
from visavis_transport_livekit import LiveKitSessionOptions, LiveKitTransportOptions
from visavis_transport_livekit.transport import LiveKitTransport


class TestRoom(TransportKit):
    backends = ("asyncio",)  # the SDK's

    @pytest.fixture
    def transport(self, livekit_server: LiveKitServer) -> TransportCase:
        def somewhere() -> LiveKitSessionOptions:
            token = livekit_server.token("avatar", f"room-{secrets.token_hex(6)}")
            return LiveKitSessionOptions(url=livekit_server.url, token=SecretStr(token))

        return TransportCase(
            make=lambda: LiveKitTransport(LiveKitTransportOptions()),
            options=somewhere,
            wrong=lambda: LiveKitSessionOptions(url=livekit_server.url, token=SecretStr("no token")),
        )


class TestDistribution(PackagingKit):
    @pytest.fixture
    def package(self) -> PackagingCase:
        return PackagingCase("visavis-transport-livekit")
