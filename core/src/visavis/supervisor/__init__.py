"""What sessions share, and where they run: the parts of one process, and the launcher that keeps to this process."""

from visavis.supervisor.launching import LocalLauncher
from visavis.supervisor.parts import Supervisor, run_session

__all__ = ["LocalLauncher", "Supervisor", "run_session"]
