"""Writing, packing, opening and reading avatar files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hvia_forge import Parts
from visavis.errors import AvatarError, AvatarInvalid
from visavis.hvia import Limits, open_hvia, pack_folder, write_hvia
from visavis.testing.tiny import tiny_avatar, yuv_of


def unpack(parts: Parts, folder: Path) -> Path:
    for name, data in parts.members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(parts.manifest))
    return folder


def test_tiny_is_small_and_always_the_same(tiny: Path, tmp_path: Path) -> None:
    assert tiny.stat().st_size <= 200_000
    again = tiny_avatar(tmp_path / "tiny.hvia")
    assert again.read_bytes() == tiny.read_bytes()
    assert tiny_avatar(tmp_path / "folder") == tmp_path / "folder" / "tiny.hvia"


def test_each_tiny_has_its_colour(tmp_path: Path) -> None:
    digests = set()
    for seed in range(3):
        with open_hvia(tiny_avatar(tmp_path / f"{seed}.hvia", seed=seed)) as avatar:
            digests.add(avatar.digest)
    with open_hvia(tiny_avatar(tmp_path / "red.hvia", colour=(255, 0, 0))) as avatar:
        digests.add(avatar.digest)
    assert len(digests) == 4
    assert yuv_of((255, 255, 255)) == (235, 128, 128)
    assert yuv_of((0, 0, 0)) == (16, 128, 128)
    assert yuv_of((255, 0, 0)) == (81, 90, 240)


def test_what_an_open_file_says(tiny: Path, parts: Parts) -> None:
    with open_hvia(str(tiny)) as avatar:
        assert avatar.id == "tiny"
        assert avatar.path == tiny
        assert avatar.size == tiny.stat().st_size
        assert avatar.digest == hashlib.sha256(tiny.read_bytes()).hexdigest()
        assert set(avatar.members) == {"manifest.json", *parts.members}
        assert "tiny" in repr(avatar)
        for name, data in parts.members.items():
            assert avatar.read(name) == data
        with pytest.raises(KeyError):
            avatar.read("nothing")
        placement = avatar.placement("idle")
        assert len(placement) == 20
        assert placement.affine.shape == (20, 2, 3)
        assert placement.rect.shape == (20, 4)
        assert placement.pose.shape == (20, 3)
        with pytest.raises(KeyError):
            avatar.placement("wave")
    avatar.close()
    with pytest.raises(ValueError, match="closed"):
        avatar.read("manifest.json")


def test_reading_from_several_threads(tiny: Path, parts: Parts) -> None:
    wrong = []
    with open_hvia(tiny) as avatar:

        def read() -> None:
            for _ in range(30):
                for name, data in parts.members.items():
                    if avatar.read(name) != data:
                        wrong.append(name)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_opening_needs_no_engine(tiny: Path) -> None:
    """A list of avatars must not cost an import of onnx; validation must not cost an engine."""
    code = (
        "import sys; from visavis.hvia import open_hvia, validate_hvia; open_hvia(sys.argv[1]).placement('idle'); "
        "assert not {'onnx', 'onnxruntime', 'av', 'cv2'} & sys.modules.keys(); validate_hvia(sys.argv[1]); "
        "assert not {'onnxruntime', 'av', 'cv2'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny)], check=True)


def test_a_member_missing_unlisted_or_other(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "made.hvia"
    extra = Parts(parts.manifest, {**parts.members, "extra.bin": b"x"})
    with pytest.raises(AvatarInvalid, match=r"holds 'extra.bin', which its manifest does not list"):
        open_hvia(extra.write(path))
    fewer = Parts(parts.manifest, {k: v for k, v in parts.members.items() if k != "clips/idle.mp4"})
    with pytest.raises(AvatarInvalid, match=r"lacks 'clips/idle.mp4', which its manifest lists"):
        open_hvia(fewer.write(path))
    face = parts.members["graphs/face.onnx"]
    other = Parts(parts.manifest, {**parts.members, "graphs/face.onnx": face[:-1] + b"\x00"})
    with pytest.raises(AvatarInvalid, match="its SHA-256 differs"):
        open_hvia(other.write(path))
    longer = Parts(parts.manifest, {**parts.members, "graphs/face.onnx": face + b"\x00"})
    with pytest.raises(AvatarInvalid, match=f"has {len(face) + 1} bytes, not {len(face)}"):
        open_hvia(longer.write(path))


def test_the_reserved_signature(parts: Parts, tmp_path: Path) -> None:
    signed = Parts(parts.manifest, {"manifest.json.sig": bytes(64), **parts.members})
    with open_hvia(signed.write(tmp_path / "made.hvia")) as avatar:
        assert avatar.read("manifest.json.sig") == bytes(64)
    signed.members["manifest.json.sig"] = bytes(5000)
    with pytest.raises(AvatarInvalid, match="more than 4096 bytes"):
        open_hvia(signed.write(tmp_path / "made.hvia"))


def test_a_file_that_changes_while_it_is_open(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.hvia"
    data = bytearray(tiny.read_bytes())
    path.write_bytes(data)
    with open_hvia(path) as avatar:
        at = data.index(b"ftyp")
        with path.open("r+b") as file:
            file.seek(at + 300)
            file.write(bytes(8))
        with pytest.raises(AvatarInvalid, match="damaged"):
            avatar.read("clips/idle.mp4")


def test_written_files_name_their_members(parts: Parts, tmp_path: Path) -> None:
    path = write_hvia(tmp_path / "new.hvia", parts.manifest, parts.members)
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644
    with open_hvia(path) as avatar:
        assert avatar.members[0] == "manifest.json"
        assert [member.path for member in avatar.manifest.members] == sorted(parts.members)


def test_a_refused_file_is_not_written(parts: Parts, tmp_path: Path) -> None:
    target = tmp_path / "new.hvia"
    target.write_bytes(b"the old one")
    parts.manifest["video"]["fps"] = 0
    with pytest.raises(AvatarInvalid, match=r"video.fps"):
        write_hvia(target, parts.manifest, parts.members)
    parts.manifest["video"]["fps"] = 10
    with pytest.raises(AvatarInvalid, match="at most 1000 are read"):
        write_hvia(target, parts.manifest, parts.members, limits=Limits(file=1000))
    with pytest.raises(AvatarInvalid, match=r"'\.\./evil' is refused"):
        write_hvia(target, parts.manifest, {**parts.members, "../evil": b""})
    with pytest.raises(AvatarInvalid, match=r"'LICENSE' cannot be read"):
        write_hvia(target, parts.manifest, {**parts.members, "LICENSE": tmp_path / "none"})
    assert target.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [target]


def test_no_room_to_write(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match="cannot be written"):
        write_hvia(tmp_path / "none" / "new.hvia", parts.manifest, parts.members)


def test_pack_a_folder(tiny: Path, parts: Parts, tmp_path: Path) -> None:
    """A manifest without members, format and engine is enough, and the bytes are those of the original."""
    for key in ("members", "format", "engine"):
        del parts.manifest[key]
    folder = unpack(parts, tmp_path / "maker")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "notes.txt").write_bytes(b"x")
    packed = pack_folder(folder, tmp_path / "packed.hvia")
    with open_hvia(packed) as avatar, open_hvia(tiny) as original:
        assert avatar.manifest.members == original.manifest.members
        assert avatar.manifest == original.manifest


def test_pack_takes_listed_extras(parts: Parts, tmp_path: Path) -> None:
    folder = unpack(parts, tmp_path / "maker")
    (folder / "LICENSE").write_bytes(b"terms")
    parts.manifest["members"] = [{"path": "LICENSE"}]
    (folder / "manifest.json").write_text(json.dumps(parts.manifest))
    with open_hvia(pack_folder(folder, tmp_path / "packed.hvia")) as avatar:
        assert avatar.read("LICENSE") == b"terms"


def test_pack_mistakes(parts: Parts, tmp_path: Path) -> None:
    target = tmp_path / "packed.hvia"
    with pytest.raises(AvatarInvalid, match=r"maker/manifest.json: it cannot be read"):
        pack_folder(tmp_path / "maker", target)
    folder = unpack(parts, tmp_path / "maker")
    (folder / "clips/idle.mp4").rename(tmp_path / "idle.mp4")
    with pytest.raises(AvatarInvalid, match=r"names 'clips/idle.mp4', which is not in the folder"):
        pack_folder(folder, target)
    (folder / "clips/idle.mp4").symlink_to(tmp_path / "idle.mp4")
    with pytest.raises(AvatarInvalid, match="leads out of the folder"):
        pack_folder(folder, target)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(AvatarInvalid, match="not JSON"):
        pack_folder(folder, target)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(AvatarInvalid, match="not a JSON object"):
        pack_folder(folder, target)
    parts.manifest["clips"][0]["video"] = "/etc/passwd"
    (folder / "manifest.json").write_text(json.dumps(parts.manifest))
    with pytest.raises(AvatarInvalid, match=r"'/etc/passwd' is refused"):
        pack_folder(folder, target)
    assert not target.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.hvia"
    path.write_bytes(tiny.read_bytes())
    path.chmod(0)
    with pytest.raises(AvatarInvalid, match="cannot be opened"):
        open_hvia(path)
