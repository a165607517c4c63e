"""What can go wrong, as types: every error says what happened, where, and what to do.

The command line maps :class:`BadInput` (and its subclasses) to exit status 2 and every other
:class:`VisavisError` to exit status 1.
"""

from __future__ import annotations


class VisavisError(Exception):
    """Base of all errors that visavis raises on purpose.

    ``hint`` is one sentence on what to do about it; it may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class BadInput(VisavisError):  # noqa: N818 - it is named after what it says
    """Something that a person gave us cannot be used: a path, a file, an id, an option."""


class MediaError(BadInput):
    """A recording or a video cannot be read or holds what cannot be played."""


class AvatarError(BadInput):
    """An avatar cannot be used."""


class AvatarNotFound(AvatarError):  # noqa: N818
    """No avatar of that id; the message says which exist."""


class AvatarInvalid(AvatarError):  # noqa: N818
    """An ``.hvia`` file breaks its format's rules. ``reason`` is one sentence."""

    def __init__(self, where: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{where}: {reason}", hint=hint)
        self.where = where
        self.reason = reason


class ConfigError(BadInput):
    """A deployment file or an option does not fit; the message holds all problems found."""


class PluginError(VisavisError):
    """A plugin is missing, broken, or breaks its contract."""


class RendererError(VisavisError):
    """A renderer cannot load an avatar or failed while it rendered."""


class TransportError(VisavisError):
    """A transport failed: a full disk, a lost room."""


class SessionError(VisavisError):
    """A session ended otherwise than by plan; the cause is chained."""


class AtCapacity(SessionError):  # noqa: N818
    """No further session is taken on. ``retry_after`` is in seconds."""

    def __init__(self, message: str, *, retry_after: float, hint: str = "try again later") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class FloorRefused(VisavisError):  # noqa: N818
    """The speech floor is taken and its policy is ``refuse``, or the session is about to end."""
