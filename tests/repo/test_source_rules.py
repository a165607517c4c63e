"""Rules about the code, read from its syntax: each is held by all product code, and each catches a planted breach."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DISTS = [
    ROOT / "core",
    *sorted(p.parent for kind in ("plugins", "examples") for p in ROOT.glob(f"{kind}/*/pyproject.toml")),
]
PRODUCT = sorted(path for dist in DISTS for path in (dist / "src").rglob("*.py"))
ANY_PYTHON = sorted(
    path
    for folder in ("core", "plugins", "examples", "tests", "bench", "models")
    for path in (ROOT / folder).rglob("*.py")
    if not any(part.startswith(".") or part in ("build", "dist") for part in path.relative_to(ROOT).parts)
)
LONGEST_MODULE = 600
LONGEST_FUNCTION = 50

Rule = Callable[[ast.Module, str], Iterable[str]]


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every module that is imported, with its line; ``from a import b`` counts as ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the full name of what is called, as far as imports tell."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {
                alias.asname or alias.name.partition(".")[0]: (alias.asname and alias.name)
                or alias.name.partition(".")[0]
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            yield node, known.get(first, first) + dot + rest


def no_pickle(tree: ast.Module, text: str) -> Iterator[str]:
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for line, name in imports(tree):
        if name.partition(".")[0] in banned:
            yield f"{line}: imports {name}"
    for call, name in calls(tree):
        if name in ("torch.load", "numpy.load") and not (
            name == "numpy.load" and not any(k.arg == "allow_pickle" for k in call.keywords)
        ):
            yield f"{call.lineno}: {name} reads pickles"


def no_bare_thread(tree: ast.Module, text: str) -> Iterator[str]:
    banned = {"threading.Thread", "threading.Timer", "_thread.start_new_thread", "multiprocessing.Process"}
    for call, name in calls(tree):
        if name in banned or name.endswith("ThreadPoolExecutor"):
            yield f"{call.lineno}: {name} makes a bare thread"


def no_unbounded_queue(tree: ast.Module, text: str) -> Iterator[str]:
    queues = {
        f"{module}.{kind}"
        for module in ("queue", "asyncio", "multiprocessing")
        for kind in ("Queue", "LifoQueue", "PriorityQueue")
    }
    for call, name in calls(tree):
        size = next((k.value for k in call.keywords if k.arg in ("maxsize", "max_buffer_size")), None)
        size = size or (call.args[0] if call.args else None)
        said = ast.unparse(size) if size is not None else ""
        if name in ("queue.SimpleQueue", "multiprocessing.SimpleQueue") or (name in queues and said in ("", "0", "-1")):
            yield f"{call.lineno}: {name} has no bound"
        if name.split("[")[0].endswith("create_memory_object_stream") and re.search(r"\binf\b|infinity", said):
            yield f"{call.lineno}: a stream of infinite size"
        if name.endswith("open_memory_channel") and re.search(r"\binf\b", said):
            yield f"{call.lineno}: a channel of infinite size"


def no_sleep(tree: ast.Module, text: str) -> Iterator[str]:
    for call, name in calls(tree):
        if name == "time.sleep":
            yield f"{call.lineno}: {name}"


def no_wall_clock(tree: ast.Module, text: str) -> Iterator[str]:
    for call, name in calls(tree):
        if name in ("time.time", "time.time_ns", "datetime.datetime.now", "datetime.datetime.utcnow"):
            yield f"{call.lineno}: {name}"


def no_event_loop_by_name(tree: ast.Module, text: str) -> Iterator[str]:
    for line, name in imports(tree):
        if name.partition(".")[0] in ("asyncio", "trio"):
            yield f"{line}: imports {name}"


def no_linux_only_call(tree: ast.Module, text: str) -> Iterator[str]:
    for line, name in imports(tree):
        if name.partition(".")[0] in ("fcntl", "resource", "pwd", "grp", "termios"):
            yield f"{line}: imports {name}"
    for call, name in calls(tree):
        if name in (
            "os.fork",
            "os.memfd_create",
            "os.sched_setaffinity",
            "os.sched_getaffinity",
            "os.splice",
            "os.sendfile",
        ):
            yield f"{call.lineno}: {name}"
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith(("/proc/", "/sys/", "/dev/shm"))
        ):
            yield f"{node.lineno}: {node.value}"


def no_vague_name(tree: ast.Module, text: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Handler|Helper|Utils?)$", node.name):
            yield f"{node.lineno}: class {node.name}"


def nothing_left_over(tree: ast.Module, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", line):
            yield f"{number}: {line.strip()[:60]}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc):
            yield f"{node.lineno}: raises NotImplementedError"


def short_functions(tree: ast.Module, text: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{node.lineno}: {node.name} has {length} lines"


def modules_say_what_they_are(tree: ast.Module, text: str) -> Iterator[str]:
    if text.strip() and not ast.get_docstring(tree):
        yield "1: no docstring"


def portable(path: Path) -> bool:
    """Whether a module must run everywhere on both event loops: the core and the file plugins."""
    within = path.relative_to(ROOT).parts
    # The kit runs checks on both event loops, so it has to name trio's virtual clock.
    return (within[0] == "core" and "testing" not in within) or within[:2] in FILE_PLUGINS


FILE_PLUGINS = {("plugins", name) for name in ("store-filesystem", "source-file", "transport-file")}


def everything(path: Path) -> bool:
    return True


def product(path: Path) -> bool:
    """All but the kit, whose checks call a renderer from several threads on purpose."""
    return "testing" not in path.parts


def timed(path: Path) -> bool:
    """All but the caches, which compare the age of files, and the one place that tells people the time of day."""
    return path.name not in ("caching.py", "wall.py")


RULES: dict[str, tuple[Rule, Callable[[Path], bool], list[str]]] = {
    "no pickle": (
        no_pickle,
        everything,
        [
            "import pickle",
            "from pickle import loads",
            "import torch\ntorch.load('x')",
            "import numpy as np\nnp.load('x', allow_pickle=True)",
        ],
    ),
    "no bare thread": (
        no_bare_thread,
        product,
        [
            "import threading\nthreading.Thread(target=f).start()",
            "from threading import Thread as T\nT()",
            "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(2)",
        ],
    ),
    "no unbounded queue": (
        no_unbounded_queue,
        everything,
        [
            "import queue\nqueue.Queue()",
            "from queue import SimpleQueue\nSimpleQueue()",
            "import asyncio\nasyncio.Queue(maxsize=0)",
            "import anyio, math\nanyio.create_memory_object_stream[int](math.inf)",
            "import anyio\nanyio.create_memory_object_stream(max_buffer_size=float('inf'))",
        ],
    ),
    "no sleep": (no_sleep, everything, ["import time\ntime.sleep(1)", "from time import sleep\nsleep(1)"]),
    "no wall clock": (no_wall_clock, timed, ["import time as t\nt.time()", "from time import time_ns\ntime_ns()"]),
    "no event loop by name": (no_event_loop_by_name, portable, ["import asyncio", "from trio import sleep"]),
    "no Linux-only call": (
        no_linux_only_call,
        portable,
        ["import fcntl", "import os\nos.fork()", "open('/proc/self/smaps')"],
    ),
    "no vague name": (no_vague_name, everything, ["class SessionManager: pass", "class Helper: pass"]),
    "nothing left over": (nothing_left_over, everything, ["# TODO: later", "def f():\n    raise NotImplementedError"]),
    "short functions": (short_functions, everything, ["def f():\n" + "    x = 1\n" * 60]),
    "modules say what they are": (modules_say_what_they_are, everything, ["x = 1"]),
}


@pytest.mark.parametrize("rule, concerns, _", RULES.values(), ids=RULES)
def test_the_rule_holds(rule: Rule, concerns: Callable[[Path], bool], _: list[str]) -> None:
    breaches = []
    for path in filter(concerns, PRODUCT):
        text = path.read_text(encoding="utf-8")
        breaches += [f"{path.relative_to(ROOT)}:{breach}" for breach in rule(ast.parse(text), text)]
    assert breaches == []


@pytest.mark.parametrize("rule, concerns, planted", RULES.values(), ids=RULES)
def test_the_rule_catches_a_breach(rule: Rule, concerns: Callable[[Path], bool], planted: list[str]) -> None:
    for text in planted:
        assert list(rule(ast.parse(text), text)), text


def test_what_is_allowed_is_not_caught() -> None:
    text = (
        '"""Fine."""\nimport threading, queue, anyio, numpy\nlock = threading.Lock()\nq = queue.Queue(maxsize=4)\n'
        "s = anyio.create_memory_object_stream[int](8)\na = numpy.load('x.npy')\n"
        "async def f():\n    await anyio.sleep(1)\n"
    )
    assert [breach for rule, _, _ in RULES.values() for breach in rule(ast.parse(text), text)] == []


def test_modules_are_short() -> None:
    long = {
        str(p.relative_to(ROOT)): n
        for p in ANY_PYTHON
        if (n := len(p.read_text(encoding="utf-8").splitlines())) > LONGEST_MODULE
    }
    assert long == {}
    assert len(PRODUCT) > 50  # the rules above looked at something
