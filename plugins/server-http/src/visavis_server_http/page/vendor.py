"""LiveKit's own JavaScript client: fetched by npm when the package is built, checked, and shipped in the wheel.

It is neither committed nor loaded from elsewhere at run time. The build hook runs :func:`fetch`; where npm was missing
then, ``python -m visavis_server_http.page.vendor`` does it later, and takes a tarball as its argument where there is
no network. This module uses the standard library alone: the build loads it by its path.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "livekit-client"
VERSION = "2.23.0"
TARBALL_SHA512 = "j9Kg86nJjBjNFUD+ukp2jwMCGa0k+YD5gU//RzAM+ZY3pbG631QCte7fQjwqWMmtBzhDJL9nKYuOLMv/9IbAxg=="
SCRIPT = "livekit-client.umd.js"
SCRIPT_SHA256 = "fb646f2260d84f91238d0a2dc10726c456631d6a26c7cafc43cfee5959b4d31d"
LICENCE = "livekit-client.LICENSE.txt"
FOLDER = Path(__file__).parent / "static" / "vendor"
COMMAND = "python -m visavis_server_http.page.vendor"

_MEMBERS = {SCRIPT: "package/dist/livekit-client.umd.js", LICENCE: "package/LICENSE"}
_LARGEST = 32 * 1024 * 1024
_PATIENCE_S = 180


class VendorError(RuntimeError):
    """The client could not be had; the message says why and what to do."""


def present(folder: Path = FOLDER) -> bool:
    """Whether the very file that is pinned here lies in ``folder``."""
    try:
        return hashlib.sha256((folder / SCRIPT).read_bytes()).hexdigest() == SCRIPT_SHA256
    except OSError:
        return False


def fetch(folder: Path = FOLDER, tarball: Path | None = None) -> Path:
    """Put the client and its licence into ``folder`` unless they are there; return the script's path.

    ``tarball`` is a file made by ``npm pack``; without it npm is asked for one. Raises VendorError.
    """
    if not present(folder):
        data = _read(tarball) if tarball is not None else _packed()
        _unpack(data, folder)
    return folder / SCRIPT


def _packed() -> bytes:
    """The bytes of the published tarball, by npm, with whatever it is configured to fetch from."""
    npm = shutil.which("npm")
    if npm is None:
        raise VendorError(f"npm is not on PATH: install Node.js with npm, then run `{COMMAND}`")
    with tempfile.TemporaryDirectory(prefix="visavis-npm-") as folder:
        ask = [
            npm,
            "pack",
            f"{PACKAGE}@{VERSION}",
            "--ignore-scripts",
            "--silent",
            "--fetch-retries=1",
            "--fetch-timeout=60000",
        ]
        env = {**os.environ, "npm_config_update_notifier": "false"}
        try:
            ran = subprocess.run(  # noqa: S603 - our own words, no shell
                ask,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=_PATIENCE_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise VendorError(f"npm did not deliver {PACKAGE} {VERSION}: {type(error).__name__}") from error
        made = sorted(Path(folder).glob("*.tgz"))
        if ran.returncode or len(made) != 1:
            raise VendorError(f"npm did not deliver {PACKAGE} {VERSION} (exit status {ran.returncode})")
        return _read(made[0])


def _read(tarball: Path) -> bytes:
    """A tarball's bytes. Raises VendorError if it cannot be read or is absurdly large."""
    try:
        with tarball.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise VendorError(f"{tarball}: {error.strerror or error}") from error
    if len(data) > _LARGEST:
        raise VendorError(f"{tarball}: larger than {_LARGEST} bytes")
    return data


def _unpack(data: bytes, folder: Path) -> None:
    """Check the tarball against its pin and write the members we ship, the script last and whole."""
    found = base64.b64encode(hashlib.sha512(data).digest()).decode("ascii")
    if found != TARBALL_SHA512:
        raise VendorError(
            f"the tarball is not {PACKAGE} {VERSION} as published: sha512-{found}, not sha512-{TARBALL_SHA512}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for name, member in reversed(_MEMBERS.items()):
                file = archive.extractfile(member)
                if file is None:
                    raise VendorError(f"{PACKAGE} {VERSION} holds no {member}")
                _replace(folder / name, file.read())
    except OSError as error:
        raise VendorError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _replace(path: Path, data: bytes) -> None:
    """Write a file under another name and move it into place: nobody sees half of it."""
    handle, half = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(half, 0o644)
        os.replace(half, path)
    except OSError:
        Path(half).unlink(missing_ok=True)
        raise


def main(arguments: list[str]) -> int:
    """``[TARBALL]``: fetch the client, or take it from a tarball. Exit status 0, or 1 with a line on stderr."""
    try:
        path = fetch(FOLDER, Path(arguments[0]) if arguments else None)
    except VendorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{PACKAGE} {VERSION}: {path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
