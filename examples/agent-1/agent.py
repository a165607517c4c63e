"""An agent with a face: LiveKit's AgentSession, and an avatar in three lines.

    python agent.py dev                  # with LiveKit Inference: keys in .env.local
    python agent.py dev --offline        # scripted ears and wits, espeak-ng's voice: no cloud at all

Where VISAVIS_URL names an Avatar Server, the avatar comes from there; else it is drawn in this process, as
pipeline.yaml beside this file says.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobProcess, cli, room_io
from livekit.plugins import silero, visavis

HERE = Path(__file__).resolve().parent
OFFLINE = "VISAVIS_AGENT_OFFLINE"  # in the environment, because each job has a process of its own
INSTRUCTIONS = "You are a friendly guide with a face. Answer in one or two short sentences, without any markup."

log = logging.getLogger("agent-1")


def optional(module: str) -> Any:
    """A module that makes the agent better where it is installed."""
    try:
        return import_module(module)
    except ImportError:
        return None


def models() -> dict[str, Any]:
    """Ears, wits and voice. Offline they are the only thing that changes."""
    if os.environ.get(OFFLINE):
        import offline

        return {"stt": offline.ScriptedEars(), "llm": offline.ScriptedWits(), "tts": offline.EspeakVoice()}
    return {"stt": "assemblyai/universal-streaming", "llm": "openai/gpt-4.1-mini", "tts": "cartesia/sonic-3"}


def avatar() -> visavis.AvatarSession:
    """From a server if there is one, else drawn here."""
    if os.environ.get("VISAVIS_URL"):
        return visavis.AvatarSession(avatar_id=os.environ.get("VISAVIS_AVATAR_ID") or "mira")
    return visavis.AvatarSession(pipeline=os.environ.get("VISAVIS_PIPELINE") or HERE / "pipeline.yaml")


def listening() -> dict[str, Any]:
    """When the user speaks and when they have finished: by a model where it is installed, else by the pauses."""
    turns = optional("livekit.plugins.turn_detector.multilingual")
    return {"turn_detection": turns.MultilingualModel()} if turns else {}


def hearing() -> room_io.RoomOptions:
    """What the agent hears of the room: without noise, where that is installed (it works in LiveKit Cloud)."""
    noise = optional("livekit.plugins.noise_cancellation")
    return room_io.RoomOptions(audio_input=room_io.AudioInputOptions(noise_cancellation=noise.BVC() if noise else None))


def prewarm(process: JobProcess) -> None:
    """Before a job comes: what takes a while to load."""
    process.userdata["vad"] = silero.VAD.load()


server = AgentServer(setup_fnc=prewarm, host="127.0.0.1", port=int(os.environ.get("AGENT_PORT", "8081")))


@server.rtc_session()
async def talk(ctx: JobContext) -> None:
    """One conversation."""
    session: AgentSession[None] = AgentSession(**models(), **listening(), vad=ctx.proc.userdata["vad"])

    face = avatar()
    face.on("avatar_unavailable", lambda event: log.warning("no face: %s", event.reason))
    await face.start(session, room=ctx.room)

    await session.start(Agent(instructions=INSTRUCTIONS), room=ctx.room, room_options=hearing())
    await session.generate_reply(instructions="Greet the user and say what you can do.")


def main() -> None:
    """Take --offline out of the command line; the rest is livekit-agents' own."""
    if dotenv := optional("dotenv"):
        dotenv.load_dotenv(HERE / ".env.local")
    if "--offline" in sys.argv:
        sys.argv.remove("--offline")
        os.environ[OFFLINE] = "1"
    cli.run_app(server)


if __name__ == "__main__":
    main()
