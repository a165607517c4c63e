"""Who may come in: each dialect shows its credential in its own way; here it is turned into a caller."""

from __future__ import annotations

import logging
from typing import Any

from starlette.requests import Request

from visavis_server_http.errors import ApiError
from visavis_server_http.keys import ANYONE, Caller, KeyRing, RateLimit, unauthorized
from visavis_server_http.options import HttpServerOptions

log = logging.getLogger("visavis.server.http")


class Doorkeeper:
    """Authentication and the number of requests."""

    def __init__(self, settings: HttpServerOptions) -> None:
        self.settings = settings
        self._ring = KeyRing(settings.api_keys, sessions=settings.sessions_per_key, rate=settings.requests_per_minute)
        self._rates = RateLimit()

    def authenticate_bearer(
        self, request: Request, *, missing: ApiError | None = None, invalid: ApiError | None = None
    ) -> Caller:
        """The caller by ``Authorization: Bearer KEY``. Raises ApiError: ``missing`` or ``invalid``, 401 by default."""
        return self.authenticate_secret(bearer_of(request), missing=missing, invalid=invalid)

    def authenticate_secret(
        self, credential: str | None, *, missing: ApiError | None = None, invalid: ApiError | None = None
    ) -> Caller:
        """The caller by a key, wherever it stood. A server without keys takes any or none.

        Raises ApiError: ``missing`` or ``invalid`` (401 by default), or 429.
        """
        if self._ring.open:
            return self._counted(ANYONE)
        if not credential:
            raise missing or unauthorized("UNAUTHORIZED", "show an API key: `Authorization: Bearer KEY`")
        caller = self._ring.caller_of(credential)
        if caller is None:
            raise invalid or unauthorized("INVALID_API_KEY", "that API key is not one of this server's")
        return self._counted(caller)

    def authenticate_jwt(self, request: Request) -> tuple[Caller, dict[str, Any]]:
        """The caller by a token that is signed with our LiveKit key, and the token's claims.

        A server without keys takes any or none. Raises ApiError 401.
        """
        token = bearer_of(request)
        if self._ring.open:
            return self._counted(ANYONE), {}
        if not token:
            raise unauthorized("UNAUTHORIZED", "show a token that is signed with the server's LiveKit key")
        claims = self._verified(token)
        key = str(claims.get("iss", ""))
        caller = Caller(f"livekit:{key}", self.settings.sessions_per_key, self.settings.requests_per_minute)
        return self._counted(caller), claims

    def _verified(self, token: str) -> dict[str, Any]:
        import jwt

        key, secret = self.settings.livekit_api_key, self.settings.livekit_api_secret
        if not key or secret is None:
            raise unauthorized("INVALID_TOKEN", "the server has no LiveKit key to check tokens with")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                secret.get_secret_value(),
                algorithms=["HS256"],
                issuer=key,
                leeway=60,
                options={"require": ["exp"]},
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            log.info("a token was refused: %s", type(error).__name__)
            raise unauthorized(
                "INVALID_TOKEN", "that token is not signed with the server's LiveKit key, or too old"
            ) from None
        return claims

    def _counted(self, caller: Caller) -> Caller:
        self._rates.take(caller)
        return caller


def bearer_of(request: Request) -> str | None:
    """What follows ``Authorization: Bearer``; None without it."""
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None
