"""The contract of a server: it listens, and asks for sessions on behalf of clients."""

from __future__ import annotations

from abc import ABC, abstractmethod

from visavis.interfaces.avatar import AvatarStore
from visavis.interfaces.launcher import Launcher


class Server(ABC):
    """Listens for clients and turns what they say into SessionRequests. One for the whole process."""

    @abstractmethod
    async def run(self, launcher: Launcher, store: AvatarStore) -> None:
        """Serve until cancelled, or until told to stop; then drain."""
