"""Sessions on many machines: workers that LiveKit's agent dispatch hands them to, and the launcher that asks for it."""
