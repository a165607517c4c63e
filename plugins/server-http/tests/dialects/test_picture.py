"""One picture of an avatar: its preview where that is a JPEG, else the first frame of its idle clip."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from PIL import Image
from visavis.errors import MediaError
from visavis.hvia import open_hvia
from visavis_server_http.dialects.picture import jpeg_of

MIRA = Path(__file__).resolve().parents[4] / "plugins/store-filesystem/src/visavis_store_filesystem/avatars/mira.hvia"


def test_a_preview_is_given_as_it_is() -> None:
    with open_hvia(MIRA) as avatar:
        assert jpeg_of(avatar) == avatar.read("preview.jpg")


def test_without_a_preview_its_clip_begins(tiny: Path) -> None:
    with open_hvia(tiny) as avatar:
        with Image.open(io.BytesIO(jpeg_of(avatar))) as picture:
            assert (picture.format, picture.size) == ("JPEG", (128, 128))
            assert len(set(picture.convert("L").get_flattened_data())) > 10


def test_without_pyav_it_says_what_to_install(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with open_hvia(tiny) as avatar, pytest.raises(MediaError, match=r"visavis\[graphs\]"):
        jpeg_of(avatar)


def test_a_clip_that_cannot_be_decoded_is_a_sentence(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_hvia(tiny) as avatar:
        monkeypatch.setattr(avatar, "read", lambda member: b"no film")
        with pytest.raises(MediaError, match="tiny cannot be decoded"):
            jpeg_of(avatar)
