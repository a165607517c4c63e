"""The base of the kits: turns checks into pytest tests, on trio with a virtual clock and on asyncio in real time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from visavis.testing.checks import Check, Suite, conform, conform_sync

PREFIX = "test_"


@dataclass(frozen=True)
class _Xfail:
    reason: str
    strict: bool


def xfail(*, reason: str, strict: bool = True) -> Any:
    """The one thing that may stand in a check's place: it still runs, and is expected to fail.

    ``test_bears_an_interrupt = xfail(reason="the engine cannot stop, see its issue 12")``. With ``strict`` a check that
    passes after all is an error. Raises ValueError without a reason.
    """
    if not reason.strip():
        raise ValueError("xfail needs a reason")
    return _Xfail(reason, strict)


class Kit:
    """Tests of one kind of part. Subclass the kit of your kind and give the one fixture that it asks for.

    A check that needs what the case does not give is skipped and says so. A check may not be overridden, except by
    :func:`xfail`: a subclass that tries is refused with TypeError.
    """

    suite: ClassVar[Suite[Any]]
    backends: ClassVar[tuple[str, ...]] = ("trio", "asyncio")
    """The loops that the checks run on: trio has a virtual clock. ``("asyncio",)`` for a part whose engine needs it."""

    def __init_subclass__(cls, *, suite: Suite[Any] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if suite is not None:
            cls.suite = suite
            for check in suite:
                setattr(cls, PREFIX + check.name, _test_of(check))
            return
        for check in cls.suite:
            name = PREFIX + check.name
            found = inspect.getattr_static(cls, name)
            if isinstance(found, _Xfail):
                marked = pytest.mark.xfail(reason=found.reason, strict=found.strict)
                setattr(cls, name, marked(_test_of(check)))
            elif getattr(found, "visavis_check", None) is not check:
                raise TypeError(
                    f"{cls.__name__}.{name}: a check may not be overridden; "
                    f"write {name} = xfail(reason=...) if the part cannot pass it yet"
                )
        unknown = [name for name, value in vars(cls).items() if isinstance(value, _Xfail)]
        if unknown:
            raise TypeError(f"{cls.__name__}.{unknown[0]}: there is no such check of a {cls.suite.kind}")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each loop."""
        if "anyio_backend" in metafunc.fixturenames:
            metafunc.parametrize("anyio_backend", self.backends, indirect=True)

    @pytest.fixture
    def anyio_backend(self, request: pytest.FixtureRequest) -> object:
        """The loop: asyncio in real time, or trio whose clock jumps as soon as everybody waits."""
        if request.param == "trio":
            import trio.testing

            return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
        return request.param


def _test_of(check: Check[Any]) -> Callable[..., Any]:
    """A test method that runs the check on the case of the subclass."""
    test: Any
    if check.is_async:

        @pytest.mark.anyio
        async def test(self: Kit, case: Any, anyio_backend_name: str) -> None:
            _skip_without(check, case)
            await conform(check, case, virtual=anyio_backend_name == "trio")

    else:

        def test(self: Kit, case: Any) -> None:
            _skip_without(check, case)
            conform_sync(check, case)

    test.__name__ = PREFIX + check.name
    test.__qualname__ = f"{check.kind.capitalize()}Kit.{test.__name__}"
    test.__doc__ = check.claim
    test.visavis_check = check
    return test  # type: ignore[no-any-return]


def _skip_without(check: Check[Any], case: Any) -> None:
    if (reason := check.lacks(case)) is not None:
        pytest.skip(reason)
