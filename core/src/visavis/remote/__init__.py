"""Sessions of another process: the messages by which a launcher's sessions are reached, and both ends of them.

``service`` answers for a launcher in a worker; ``worker`` and ``session`` are what the other side sees of it. What
carries the messages (``wire.Wire``) is a socket between processes, or whatever a plugin brings.
"""
