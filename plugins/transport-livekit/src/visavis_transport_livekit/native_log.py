"""The log of the SDK's native part, which costs more than it tells.

livekit 1.1 has libwebrtc write everything down, the contents of each data packet as hex included, and hands every line
to Python, a call under the interpreter's lock each, where all but warnings is thrown away. While a minute of speech
arrives at once that is a tenth of a core, taken from the threads that draw and present (``bench/livekit/cpu.py``).
"""

from __future__ import annotations

import logging
import os
from typing import Final

from livekit.rtc import _ffi_client
from livekit.rtc.version import __version__

log = logging.getLogger("visavis.transport.livekit")

WANTED: Final = ("LIVEKIT_RTC_DEBUG", "RUST_LOG")
"""Environment variables by which somebody asks for that log: then it is left as it is."""


def hush() -> bool:
    """Keep it inside the native part; True if that was done. Called before the process has any room.

    A program that uses the SDK already, an agent with an avatar in its own process, has its own opinion of its logs:
    there nothing is changed. What goes wrong is raised by the calls, or told by the room's events, all the same. The
    SDK has no public name for this: where it is not to be found, the log stays.
    """
    client = _ffi_client.FfiClient
    if any(os.environ.get(name) for name in WANTED) or getattr(client, "_instance", None) is not None:
        return False
    os.environ["RUST_LOG"] = "off"  # it would go to stderr instead, tokens and all
    try:
        name = b"python", __version__.encode("ascii")
        client.instance._ffi_lib.livekit_ffi_initialize(_ffi_client.ffi_event_callback, False, *name)
    except AttributeError as error:
        log.debug("the SDK's native log could not be turned off: %s", error)
        return False
    finally:
        del os.environ["RUST_LOG"]  # it has been read; a child process decides for itself
    return True
