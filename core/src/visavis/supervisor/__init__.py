"""What sessions share, and where they run: the parts of one process, and the launcher that keeps to this process."""

from visavis.supervisor.admission import processors
from visavis.supervisor.launching import LocalLauncher
from visavis.supervisor.parts import Supervisor, run_session
from visavis.supervisor.rehearsing import pictures

__all__ = ["LocalLauncher", "Supervisor", "pictures", "processors", "run_session"]
