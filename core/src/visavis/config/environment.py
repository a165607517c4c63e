"""``${NAME}`` and ``${NAME:-default}`` in values: where a deployment takes its keys and addresses from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from visavis.config.problems import Problem
from visavis.config.tree import Scalar, Value, path_text, scalars

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<broken>\$\{)")


def expand(tree: Value, env: Mapping[str, str]) -> list[Problem]:
    """Replace references in every value, in place; returns the problems.

    An expanded value stays text, however it looks (a key may be all digits); the option's model converts it.
    A variable that is set to nothing counts as missing where there is a default. ``$${`` stands for ``${``.
    """
    problems: list[Problem] = []
    for path, scalar in scalars(tree):
        if isinstance(scalar.value, str) and "${" in scalar.value:
            problems += _expand_one(path_text(path), scalar, env)
    return problems


def _expand_one(path: str, scalar: Scalar, env: Mapping[str, str]) -> list[Problem]:
    problems: list[Problem] = []

    def replaced(found: re.Match[str]) -> str:
        name, default = found["name"], found["default"]
        if found["broken"]:
            fix = "write ${NAME} or ${NAME:-default}; $${ stands for ${ itself"
            problems.append(Problem(path, "the reference to the environment is malformed", fix, scalar.mark))
        elif name is None:
            return "${"
        elif env.get(name) or (name in env and default is None):
            return env[name]
        elif default is not None:
            return str(default)
        else:
            problems.append(_missing(path, name, scalar, env))
        return found[0]

    text = str(scalar.value)
    expanded = _REFERENCE.sub(replaced, text)
    scalar.expanded = any(found["name"] for found in _REFERENCE.finditer(text)) or bool(problems)
    scalar.value = expanded
    if problems:
        scalar.value = None
    return problems


def _missing(path: str, name: str, scalar: Scalar, env: Mapping[str, str]) -> Problem:
    close = difflib.get_close_matches(name, list(env), n=1, cutoff=0.8)
    meant = f"did you mean {close[0]}? Otherwise " if close else ""
    fix = f"{meant}set {name}, or write ${{{name}:-default}}"
    return Problem(path, f"the environment variable {name} is not set", fix, scalar.mark)
