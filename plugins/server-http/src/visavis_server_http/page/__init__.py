"""The page at ``/``: pick an avatar, join a room, see and hear it, make it speak.

Plain files beside this module, and LiveKit's own JavaScript client, which the build puts there (see ``vendor``).
"""

from __future__ import annotations

from visavis_server_http.page.routes import routes

__all__ = ["routes"]
