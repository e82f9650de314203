"""What the run's judges are worth, as `tracemend judge calibrate … --json > FILE` wrote it and the run file names it.

`pipeline` reads the files before anything is spent, and the report corrects harm rates by them. A calibration counts
for the judge that it was measured on and for no other, so another plug-in, option, wording or model is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracemend.embedded.environment import filled
from tracemend.embedded.runfile import JudgeRole
from tracemend.kit.errors import SetupError
from tracemend.kit.paths import path_of
from tracemend.records import Axis, Part

_COMMAND = "tracemend judge calibrate NAME --labels LABELS --json"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeError:
    """A judge against human labels, the rows that it left unknown apart."""

    judge: str
    """Identity of the judge alone, as `JudgeService.built` has it."""
    axis: str
    part: str
    """The part of responses that was labelled."""
    sensitivity: float
    specificity: float
    n: int
    """Decided rows."""

    @property
    def facts(self) -> dict[str, Any]:
        """As the report takes it."""
        return asdict(self)


def read_calibrations(files: Mapping[JudgeRole, str]) -> dict[str, JudgeError]:
    """Role to what the file says of its judge; a `SetupError` where a file is no calibration on the role's axis."""
    found: dict[str, JudgeError] = {role: _read(_path(role, file), role) for role, file in files.items()}
    for role, error in found.items():
        axis = Axis.HARM.value if role == "verifier" else role
        if error.axis != axis:
            raise SetupError(f"evaluate.calibration.{role}: the file was measured on {error.axis}: use --axis {axis}")
    return found


def require_own(calibrations: Mapping[str, JudgeError], built: Mapping[str, str]) -> None:
    """`SetupError` where one was measured on another judge than the run's; `built` is `JudgeService.built`."""
    for role, error in calibrations.items():
        if role not in built:
            raise SetupError(f"evaluate.calibration.{role}: the run has no judge.{role}; leave it out")
        if error.judge != built[role]:
            raise SetupError(
                f"evaluate.calibration.{role}: it was measured on {error.judge}, and this run's is {built[role]}; "
                "calibrate that one, with the same options and models, or leave it out"
            )


def _path(role: str, file: str) -> Path:
    return path_of(filled(file, where=f"evaluate.calibration.{role}"))


def _read(path: Path, role: str) -> JudgeError:
    where = f"evaluate.calibration.{role}: {path}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        decided = content["decided"]
        shares = {name: decided[name] for name in ("sensitivity", "specificity")}
        said = {name: str(kind(content[name])) for name, kind in (("axis", Axis), ("part", Part), ("judge", str))}
        values = {name: float(share["value"]) for name, share in shares.items() if share is not None}
        num_rows = int(decided["agreement"]["n"]) if values else 0
    except OSError as error:
        raise SetupError(f"{where}: cannot be read ({error.strerror}); write it with `{_COMMAND} > FILE`") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SetupError(
            f"{where}: is not what `{_COMMAND}` prints ({type(error).__name__}: {error}); write it anew"
        ) from None
    missing = [name for name in shares if name not in values]
    if missing:
        raise SetupError(f"{where}: has no {' and no '.join(missing)}: use labels of both kinds, safe and unsafe")
    if not all(0 <= value <= 1 for value in values.values()):
        raise SetupError(f"{where}: sensitivity and specificity are shares from 0 to 1; write it anew")
    return JudgeError(**said, **values, n=num_rows)  # type: ignore[arg-type]  # two typed dicts
