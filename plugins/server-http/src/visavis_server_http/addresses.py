"""Which addresses the server may dial: read strictly, compared as origins, and put together anew."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_URL: Final = re.compile(r"(?P<scheme>wss?|https?)://(?P<rest>[\x21-\x7e]{1,2000})\Z", re.IGNORECASE)
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")
_PATH: Final = re.compile(r"(/[A-Za-z0-9._~-]+)*/?\Z")
_PORTS: Final = {"ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme (ws or wss), host in lower case (an IPv6 address without its brackets), and port."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """As a URL without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if _PORTS[self.scheme] == self.port else f":{self.port}")


def livekit_origin(url: str) -> tuple[Origin, str]:
    """The origin and the path of a LiveKit server's URL; http and https stand for ws and wss.

    Raises ValueError, in words for whoever wrote it. Nothing that two readers might read differently passes: no user,
    no query, no escape, no backslash, no number in place of an address.
    """
    found = _URL.match(url)
    if found is None:
        raise ValueError("a LiveKit URL is ws://host:port or wss://host, in plain letters")
    if any(c in found["rest"] for c in "@\\%?#"):
        raise ValueError("a LiveKit URL has no user, no query, no fragment, no escapes and no backslash")
    try:
        parts = urlsplit(url)
        host, port = _host(parts.hostname or ""), parts.port
    except ValueError as error:
        raise ValueError(f"not a URL: {error}") from None
    if not _PATH.match(parts.path) or "/./" in f"{parts.path}/" or "/../" in f"{parts.path}/":
        raise ValueError("the path of a LiveKit URL holds only letters, digits and . _ ~ -")
    if port == 0:
        raise ValueError("port 0 cannot be dialled")
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return Origin(scheme, host, port or _PORTS[scheme]), parts.path.rstrip("/")


def _host(text: str) -> str:
    """A host's one spelling. Raises ValueError for what is neither a name nor an address."""
    host = text.lower().removesuffix(".")
    if ":" in host:
        address = ipaddress.IPv6Address(host)  # refuses scopes that are no plain address
        return str(address.ipv4_mapped or address)
    if not _HOST.match(host) or ".." in host:
        raise ValueError(f"{text[:80]!a} is no host name")
    if host.rpartition(".")[2].isdigit() or host.startswith("0x") or re.fullmatch(r"0x[0-9a-f]*", host.split(".")[-1]):
        # A resolver would take 127.1 or 2130706433 for an address.
        return str(ipaddress.IPv4Address(host))
    return host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for sure: localhost, 127.0.0.0/8 or ::1. No name is looked up."""
    try:
        plain = _host(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    if plain == "localhost" or plain.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(plain).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Listed:
    """One rule of ``allow_livekit_urls``: an origin, a host, ``*.domain``, or ``*``."""

    origin: Origin | None
    host: str

    def allows(self, origin: Origin) -> bool:
        """Whether this rule lets an origin be dialled. A bare host or domain stands for wss alone."""
        if self.origin is not None:
            return origin == self.origin
        if self.host == "*":
            return True
        if origin.scheme != "wss":
            return False
        return origin.host.endswith(self.host[1:]) if self.host.startswith("*.") else origin.host == self.host


def listed(rule: str) -> Listed:
    """Read one rule. Raises ValueError."""
    if "://" in rule:
        return Listed(livekit_origin(rule)[0], "")
    if rule == "*":
        return Listed(None, "*")
    wild = rule.startswith("*.")
    return Listed(None, ("*." if wild else "") + _host(rule.removeprefix("*.")))


@dataclass(frozen=True, slots=True)
class Dialling:
    """Which LiveKit servers may be dialled: ours, listed ones, and any of this machine if we listen on it alone."""

    ours: str | None
    rules: tuple[Listed, ...]
    loopback: bool

    @classmethod
    def of(cls, ours: str | None, rules: tuple[str, ...], *, loopback: bool) -> Dialling:
        """From options. Raises ValueError."""
        return cls(ours, tuple(listed(rule) for rule in rules), loopback)

    def checked(self, url: str) -> str:
        """The URL, put together anew, so that whoever dials it reads what was checked.

        Raises ValueError if it is none, PermissionError if it may not be dialled.
        """
        origin, path = livekit_origin(url)
        ours = self.ours is not None and livekit_origin(self.ours)[0] == origin
        near = self.loopback and is_loopback(origin.host)
        if not (ours or near or any(rule.allows(origin) for rule in self.rules)):
            raise PermissionError(f"{origin.url} is not among the LiveKit servers that may be dialled")
        return origin.url + path


def private_reason(url: str) -> str | None:
    """Why an image's URL may not be fetched, told from its text alone; None if nothing speaks against it.

    A name may still lead to a private address: whoever fetches checks what it resolves to as well.
    """
    try:
        parts = urlsplit(url)
        host = _host(parts.hostname or "")
    except ValueError:
        return "it is no URL"
    if parts.scheme not in ("http", "https"):
        return "only http and https are fetched"
    if parts.username is not None or parts.password is not None:
        return "it holds a user"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        inside = host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or "." not in host
        return "it is a name of a private network" if inside else None
    return None if address.is_global else "it is a private address"
