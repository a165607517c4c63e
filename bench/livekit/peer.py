"""The peer: livekit-agents' stock AvatarRunner with the same ready pictures and the same sound.

python bench/livekit/peer.py [--seconds 60] [--rate 24000] [--json FILE]
"""

from __future__ import annotations

from floor import main

if __name__ == "__main__":
    main("peer")
