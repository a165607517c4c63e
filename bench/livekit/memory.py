"""What a server keeps in memory: a talking session, then more of them, each of another avatar.

    python bench/livekit/memory.py [--avatars 4] [--seconds 10] [--json FILE]

The avatars are copies of Mira whose graphs differ by a word, so that nothing of them is shared but the base clip.
Memory is USS by the operating system's account (private pages) without the mapped clips, which are files; what they
would add stands beside. The floor is the plain SDK with one session.
"""

from __future__ import annotations

import math
import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import onnx
from cpu import recording, talk
from measuring import Figures, Room, arguments, run
from subjects import AGENT, AVATAR, MIRA, AvatarServer, serving
from visavis.hvia import open_hvia, write_hvia
from visavis.testing.livekit.sender import speaking_to
from visavis.testing.livekit.server import LiveKitServer
from visavis.testing.livekit.viewer import watching

SHIPPED = (
    Path(__file__).resolve().parents[2] / "plugins/store-filesystem/src/visavis_store_filesystem/avatars/mira.hvia"
)


def copies(folder: Path, count: int) -> list[str]:
    """Write so many avatars with graphs of their own; returns their ids."""
    folder.mkdir(parents=True)
    with open_hvia(SHIPPED) as file:
        said = file.manifest.model_dump(mode="json", exclude={"members", "format", "engine"})
        members = {member.path: file.read(member.path) for member in file.manifest.members}
    for number in range(count):
        own = dict(members)
        for path in own:
            if path.endswith(".onnx"):
                model = onnx.load_from_string(own[path])
                model.graph.doc_string = f"copy {number}"
                own[path] = model.SerializeToString()
        write_hvia(folder / f"copy-{number}.hvia", {**said, "name": f"Copy {number}"}, own)
    return [f"copy-{number}" for number in range(count)]


def private_megabytes(pid: int) -> tuple[float, float]:
    """USS of a process in MB: without mapped clips, and theirs."""
    own = clips = 0
    mapped = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = line.split()
        if "-" in head[0] and ":" not in head[0]:
            mapped = "/clips/" in line or line.endswith(".i420")
        elif head[0] in ("Private_Clean:", "Private_Dirty:"):
            own, clips = (own, clips + int(head[1])) if mapped else (own + int(head[1]), clips)
    return own / 1024, clips / 1024


async def join(
    stack: AsyncExitStack, livekit: LiveKitServer, server: AvatarServer, avatar: str, seconds: float
) -> None:
    """Start a session of that avatar and let it talk for so long."""
    pcm, rate = recording()
    room = f"memory-{avatar}"
    await stack.enter_async_context(watching(livekit, room))
    sender = await stack.enter_async_context(speaking_to(livekit, room, AVATAR, identity=AGENT))
    await server.start(room, avatar=avatar)
    await sender.avatar_seen()
    await sender.say(pcm, rate)
    await anyio.sleep(seconds)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__, seconds=10, subjects="")
    parser.add_argument("--avatars", type=int, default=4)
    asked = parser.parse_args()

    async def measure(livekit: LiveKitServer, folder: Path) -> Figures:
        pcm, rate = recording()
        async with Room("floor", livekit, folder, rate=rate) as floor:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(talk, floor.sender, pcm, rate, time.monotonic() + asked.seconds, math.inf)
                await anyio.sleep(asked.seconds)
                base, _ = private_megabytes(floor.subject.pid)
                tasks.cancel_scope.cancel()
        figures: Figures = {"floor, MB": round(base)}
        avatars = copies(folder / "copies", asked.avatars)
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(
                serving(livekit, folder / "server", renderer=MIRA, avatars=folder / "copies")
            )
            figures["server without sessions, MB"] = round(private_megabytes(server.pid)[0])
            for count, avatar in enumerate(avatars, start=1):
                await join(stack, livekit, server, avatar, asked.seconds)
                own, clips = private_megabytes(server.pid)
                figures[f"{count} avatars, a talking session each, MB"] = f"{own:.0f} (mapped clips {clips:.0f})"
        return figures

    run(measure, asked.json)


if __name__ == "__main__":
    main()
