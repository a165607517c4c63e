"""What a conformance check is: one claim about a part, how it is proven, and a saboteur that breaks only this claim."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import anyio

from visavis import workers
from visavis.errors import VisavisError

C = TypeVar("C")

Run = Callable[[C], Awaitable[None]] | Callable[[C], None]
Saboteur = Callable[[Path], C]
"""Makes a case in an empty folder; the part in it is right but for the one behaviour."""

LIMIT = 30.0
"""Seconds of the loop's clock in which a check must end."""
SENTENCE = 400
"""The most characters of an error's message: one sentence, perhaps with a list."""

_virtual: ContextVar[bool] = ContextVar("visavis_testing_virtual_clock", default=False)


class ConformanceFailure(AssertionError):  # noqa: N818 - a verdict, not an error of the kit
    """A part does not do what its contract says; the message says what it did instead."""


def expect(condition: object, message: str) -> None:
    """Raise ConformanceFailure with the message unless the condition holds."""
    __tracebackhide__ = True
    if not condition:
        raise ConformanceFailure(message)


def expect_sentence(error: BaseException, where: str) -> None:
    """The error is one of ours and its message is a sentence that a person can act on."""
    __tracebackhide__ = True
    said = str(error)
    expect(isinstance(error, VisavisError), f"{where} it raised {type(error).__name__}, which is not a VisavisError")
    expect(re.search(r"\w+ \w+", said) and "\n" not in said, f"{where} its error is not a sentence: {said!r}")
    expect(len(said) <= SENTENCE, f"{where} its error is {len(said)} characters long: {said[:80]!r}...")


@dataclass(eq=False)
class Check(Generic[C]):
    """One claim. ``needs`` names fields of the case: where one is not given, the check does not apply."""

    kind: str
    run: Run[C]
    needs: tuple[str, ...] = ()
    limit: float = LIMIT
    saboteurs: list[Saboteur[C]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What it claims, in a few words: ``ends_every_segment``."""
        return self.run.__name__

    @property
    def claim(self) -> str:
        """What it claims, in a sentence or more."""
        return inspect.getdoc(self.run) or self.name

    @property
    def is_async(self) -> bool:
        """Whether it needs an event loop."""
        return inspect.iscoroutinefunction(self.run)

    def lacks(self, case: C) -> str | None:
        """Why the check does not apply to a case; None if it does."""
        missing = [need for need in self.needs if getattr(case, need) is None or getattr(case, need) is False]
        return f"the case does not give {' and '.join(missing)}" if missing else None


class Suite(Generic[C]):
    """The checks of one kind of part, in the order in which they were written."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.checks: dict[str, Check[C]] = {}

    def check(self, *needs: str, limit: float = LIMIT) -> Callable[[Run[C]], Check[C]]:
        """Decorate a function of a case: it becomes a check that applies where the case gives ``needs``."""

        def add(run: Run[C]) -> Check[C]:
            made = Check(self.kind, run, needs, limit)
            if made.name in self.checks:
                raise ValueError(f"two checks of a {self.kind} are named {made.name}")
            self.checks[made.name] = made
            return made

        return add

    def breaks(self, check: Check[C]) -> Callable[[Saboteur[C]], Saboteur[C]]:
        """Decorate a saboteur of a check."""

        def add(make: Saboteur[C]) -> Saboteur[C]:
            if self.checks.get(check.name) is not check:
                raise ValueError(f"{check.name} is not a check of a {self.kind}")
            check.saboteurs.append(make)
            return make

        return add

    def __iter__(self) -> Iterator[Check[C]]:
        return iter(self.checks.values())


def on_virtual_clock() -> bool:
    """Whether time passes only while everybody waits, so that a duration says who slept and not how fast we are."""
    return _virtual.get()


@contextmanager
def virtual_clock() -> Iterator[None]:
    """Within this context the loop's clock counts as virtual, and blocking work runs inline: no threads."""
    token = _virtual.set(True)
    try:
        with workers.inline():
            yield
    finally:
        _virtual.reset(token)


async def conform(check: Check[C], case: C, *, virtual: bool = False) -> None:
    """Run one check on one case. Raises ConformanceFailure, or whatever the part raised where it must not.

    ``virtual`` says that the running loop has a virtual clock.
    """
    with virtual_clock() if virtual else nullcontext():
        try:
            with anyio.fail_after(check.limit):
                outcome = check.run(case)
                if inspect.isawaitable(outcome):
                    await outcome
        except TimeoutError as error:
            raise ConformanceFailure(f"{check.name}: it had not ended after {check.limit:g} s") from error
        except BaseExceptionGroup as group:
            raise _first(group) from group


def conform_sync(check: Check[C], case: C) -> None:
    """Run a check that needs no event loop."""
    if check.is_async:
        raise ValueError(f"{check.name} needs an event loop")
    check.run(case)


def _first(error: BaseException) -> BaseException:
    """The failure that matters in a group: the kit's own before others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = sorted((_first(inner) for inner in error.exceptions), key=_rank)
    return leaves[0]


def _rank(error: BaseException) -> tuple[bool, bool]:
    return not isinstance(error, ConformanceFailure), not isinstance(error, Exception)
