"""A face for any LiveKit agent: AvatarSession, by an Avatar Server or inside the agent's own process."""
