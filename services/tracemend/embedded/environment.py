"""Addresses that a run file leaves to the environment: `openai:${TRACEMEND_TARGET_MODEL}@${TRACEMEND_TARGET_URL}`.

`models` fills them in at the moment of opening. The plan, its digest and everything stored keep the names, so a run
file can be shared and a report published without telling where anybody's endpoints are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from tracemend.kit.errors import SetupError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def filled(address: str, *, where: str, environment: Mapping[str, str] | None = None) -> str:
    """`address` with every `${NAME}` replaced by that variable's value, which is taken as it is.

    Args:
        address: A model address or folder of a run file.
        where: The setting that holds it, for messages.
        environment: The process's own if left out.

    Raises:
        SetupError: A variable is unset or empty, or a reference is not written `${NAME}`.
    """
    known = os.environ if environment is None else environment
    missing = list(dict.fromkeys(name for name in names_in(address) if not known.get(name)))
    if missing:
        raise SetupError(f"{where}: set the environment variable{'s' * (len(missing) > 1)} {', '.join(missing)}")
    if "${" in _REFERENCE.sub("", address):
        raise SetupError(f"{where}: a variable is written ${{NAME}}, with letters, digits and underscores in NAME")
    return _REFERENCE.sub(lambda match: known[match[1]], address)


def names_in(address: str) -> tuple[str, ...]:
    """The variables that `address` refers to, in order."""
    return tuple(_REFERENCE.findall(address))
