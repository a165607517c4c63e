"""Which LiveKit servers may be dialled: no spelling gets past the list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from visavis_server_http.addresses import Dialling, is_loopback, livekit_origin, private_reason
from visavis_server_http.options import HttpServerOptions

NEAR = Dialling.of(None, (), loopback=True)
FAR = Dialling.of(
    "wss://ours.example", ("wss://listed.example:7443", "plain.example", "*.cloud.example"), loopback=False
)


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("ws://127.0.0.1:7880", "ws://127.0.0.1:7880"),
        ("ws://localhost:7880/", "ws://localhost:7880"),
        ("WS://LocalHost.:7880", "ws://localhost:7880"),
        ("ws://[::1]:7880", "ws://[::1]:7880"),
        ("ws://[0:0:0:0:0:0:0:1]", "ws://[::1]"),
        ("ws://[::ffff:127.0.0.1]:1", "ws://127.0.0.1:1"),
        ("http://127.8.9.1:7880", "ws://127.8.9.1:7880"),
        ("https://localhost", "wss://localhost"),
        ("wss://localhost:443/livekit/a-b", "wss://localhost/livekit/a-b"),
    ],
)
def test_this_machine(url: str, dialled: str) -> None:
    assert NEAR.checked(url) == dialled
    with pytest.raises(PermissionError):
        FAR.checked(url)


@pytest.mark.parametrize(
    "url",
    [
        "wss://ours.example",
        "wss://OURS.example.:443",
        "https://ours.example/",
        "wss://listed.example:7443",
        "wss://plain.example",
        "wss://plain.example:8443",
        "wss://a.cloud.example",
        "wss://a.b.cloud.example",
    ],
)
def test_what_is_listed(url: str) -> None:
    assert FAR.checked(url).startswith("wss://")


@pytest.mark.parametrize(
    "url",
    [
        "ws://ours.example",
        "wss://ours.example:444",
        "wss://listed.example",
        "wss://ours.example.evil.example",
        "wss://evilours.example",
        "wss://cloud.example",
        "wss://evilcloud.example",
        "ws://plain.example",
        "wss://xn--rs-eka.example",
        "ws://10.0.0.1",
        "ws://169.254.169.254",
        "ws://0.0.0.0",
        "ws://[::]",
        "ws://[fe80::1]",
        "ws://[::ffff:10.0.0.1]",
    ],
)
def test_what_is_not(url: str) -> None:
    for dialling in (NEAR, FAR):
        with pytest.raises(PermissionError):
            dialling.checked(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ours.example",
        "//ours.example",
        "ftp://ours.example",
        "javascript:alert(1)",
        "wss://",
        "wss:///path",
        "wss://ours.example@evil.example",
        "wss://user:pass@ours.example",
        "wss://ours.example%2eevil.example",
        "wss://%6furs.example",
        "wss://ours.example\\.evil.example",
        "wss://ours.example?to=evil",
        "wss://ours.example#evil",
        "wss://ours .example",
        "wss://ours.example\n",
        "wss://ours.example/\r\nX: y",
        "wss://öurs.example",
        "wss://ours。example",
        "wss://ours..example",
        "wss://-ours.example",
        "wss://ours.example:0",
        "wss://ours.example:99999",
        "wss://ours.example:x",
        "ws://127.1",
        "ws://2130706433",
        "ws://0x7f000001",
        "ws://0177.0.0.1",
        "ws://127.0.0.0x1",
        "ws://[::1",
        "ws://[::1%25eth0]",
        "ws://localhost/../admin",
        "ws://localhost/%2e%2e",
        "ws://localhost/a//b",
        "ws://" + "a" * 300,
        "ws://localhost/" + "a" * 3000,
    ],
)
def test_what_two_readers_might_read_differently(url: str) -> None:
    for dialling in (NEAR, FAR):
        with pytest.raises(ValueError):
            dialling.checked(url)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"(wss?|https?)://[a-z0-9.:@%/\\\[\]#?-]{0,40}", fullmatch=True))
def test_no_text_breaks_it(text: str) -> None:
    try:
        dialled = FAR.checked(text)
    except (ValueError, PermissionError):
        return
    host = livekit_origin(dialled)[0].host
    assert host.endswith(("ours.example", "listed.example", "plain.example", ".cloud.example"))
    assert FAR.checked(dialled) == dialled


def test_rules_are_read_when_the_server_starts() -> None:
    for rules in (["wss://"], ["*."], ["a b"], ["http://x y"], ["*.*.example"]):
        with pytest.raises(ValidationError):
            HttpServerOptions(allow_livekit_urls=rules)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        HttpServerOptions(livekit_url="nonsense")
    assert Dialling.of(None, ("*",), loopback=False).checked("ws://10.0.0.1:7880") == "ws://10.0.0.1:7880"


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example", "127.0.0.1.example", "127.1", "", "::ffff:8.8.8.8"]
)
def test_what_is_no_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png",
        "http://localhost/a.png",
        "http://10.1.2.3/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a.png",
        "http://[::ffff:192.168.0.1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://intranet/a.png",
        "http://printer.local/",
        "http://user@pictures.example/",
        "file:///etc/passwd",
        "gopher://pictures.example",
        "http://[",
    ],
)
def test_images_are_not_fetched_from_within(url: str) -> None:
    assert private_reason(url)


def test_images_may_come_from_outside() -> None:
    assert private_reason("https://pictures.example/a.png") is None
    assert private_reason("https://93.184.215.14/a.png") is None
