"""Judges avatar files, each in a forked child of one warm process, under limits and under watch.

Run as a script it is that process: a path a line on standard input, a verdict a line on standard output. The child
may open the file it is given and nothing else: whatever else it does that could leave a mark is a violation.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MEMORY = 768 * 1024 * 1024
"""What a child may take beyond the warm process, in bytes of address space."""
CPU_S = 10
WALL_S = 30.0

_MARKS = (
    "os.",
    "shutil.",
    "subprocess.",
    "socket.",
    "ctypes.",
    "tempfile.",
    "pty.",
    "exec",
    "compile",
    "import",
    "pickle.",
    "marshal.",
    "code.",
    "function.__new__",
)
_HARMLESS = frozenset({"os.listdir", "os.scandir", "os.fspath", "os.getcwd"})


@dataclass
class Verdict:
    """``outcome`` is ``accepted``, ``refused`` or what went wrong: ``crash``, ``hang``, ``error``."""

    outcome: str
    reason: str
    seconds: float
    violations: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Refused or accepted, and nothing else happened."""
        return self.outcome in ("accepted", "refused") and not self.violations


class WarmProcess:
    """The other end: starts the process and asks it. Use as a context manager."""

    def __init__(self, *, cpu_s: int = CPU_S) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="hvia-fuzz-")
        self.home = Path(self._home.name)
        self.case = self.home / "case" / "case.hvia"
        """Where the next case is to be written."""
        for folder in ("case", "cwd", "tmp"):
            (self.home / folder).mkdir()
        places = {"HOME": str(self.home / "cwd"), "TMPDIR": str(self.home / "tmp"), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(cpu_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.home / "cwd",
            env={**os.environ, **places},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._home.cleanup()

    def judge(self, data: bytes) -> Verdict:
        """What the reader makes of a file of these bytes."""
        assert self._process.stdin
        assert self._process.stdout
        self.case.write_bytes(data)
        self._process.stdin.write(f"{self.case}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the warm process is gone")
        verdict = Verdict(**json.loads(line))
        left = sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))
        if left != ["case", "case/case.hvia", "cwd", "tmp"] or self.case.read_bytes() != data:
            verdict.violations.append(f"left on disk: {left}")
        return verdict


def _serve(cpu_s: int) -> None:
    """Warm up, then judge a path a line."""
    import numpy  # noqa: F401
    import onnx.checker
    import onnx.shape_inference  # noqa: F401
    from visavis.hvia import validate_hvia
    from visavis.testing.tiny import tiny_avatar

    with tempfile.TemporaryDirectory() as folder:
        # Refused and accepted once, so that whatever is imported on the way is there.
        validate_hvia(tiny_avatar(folder))
        broken = Path(folder) / "broken.hvia"
        broken.write_bytes(b"")
        validate_hvia(broken)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(_judged(line.rstrip("\n"), cpu_s)), flush=True)


def _judged(path: str, cpu_s: int) -> dict[str, Any]:
    """Fork, wait, and say what became of the child."""
    start = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_child(path, writing, cpu_s)
    os.close(writing)
    said = _all_of(reading, start + WALL_S)
    if said is None:
        os.kill(child, signal.SIGKILL)
    os.close(reading)
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - start
    if said is None:
        return {"outcome": "hang", "reason": f"still running after {WALL_S} s", "seconds": seconds}
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return {"outcome": "hang" if name == "SIGXCPU" else "crash", "reason": name, "seconds": seconds}
    if os.WEXITSTATUS(status) or not said:
        return {"outcome": "crash", "reason": f"exit {os.WEXITSTATUS(status)}", "seconds": seconds}
    return {**json.loads(said), "seconds": seconds}


def _all_of(reading: int, until: float) -> bytes | None:
    """Everything a child says until it goes; None if it takes too long."""
    said = b""
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            return None
        piece = os.read(reading, 65536)
        if not piece:
            return said
        said += piece


def _in_child(path: str, writing: int, cpu_s: int) -> None:
    """Judge one file under limits and never return."""
    import traceback

    from visavis.errors import AvatarError
    from visavis.hvia import check_hvia, open_hvia, validate_hvia

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if pages:
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    violations: list[str] = []
    watching = True

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if not watching:
            return
        if event == "open":
            writes = isinstance(args[1], str) and any(letter in args[1] for letter in "wax+")
            if (args[0] != path and str(args[0]) != path) or writes:
                violations.append(f"open {args[0]!r} {args[1]!r}")
        elif event.startswith(_MARKS) and event not in _HARMLESS:
            violations.append(f"{event} {args!r}"[:200])

    sys.addaudithook(watch)
    try:
        try:
            errors = [finding.message for finding in validate_hvia(path) if finding.level == "error"]
            if not errors:
                with open_hvia(path) as avatar:
                    check_hvia(avatar)
            outcome, reason = ("refused", errors[0]) if errors else ("accepted", "")
        except AvatarError as error:
            outcome, reason = "refused", str(error)
        except BaseException:
            watching = False
            outcome, reason = "error", traceback.format_exc()
        watching = False
        if "\n" in reason and outcome == "refused":
            violations.append("the reason has more than one line")
        said = json.dumps({"outcome": outcome, "reason": reason[:2000], "violations": violations[:5]})
        os.write(writing, said.encode())
    finally:
        os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
