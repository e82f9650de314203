"""`tracemend doctor`: what a model of your own would do in a run."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from tracemend.cli.running import quiet_libraries
from tracemend.cli.showing import checks, print_json, wide_console
from tracemend.embedded.doctor import examine
from tracemend.generator.settings import TargetSettings
from tracemend.kit.errors import SetupError
from tracemend.kit.settings import SamplingSettings

EXIT_SETUP = 2
_ENGINES = ("transformers", "vllm")


def doctor(
    model: Path, *, engine: str, prompts: Path | None, reasoning_format: str, max_new_tokens: int, as_json: bool
) -> None:
    """Print the findings; exit with 2 if something must be changed."""
    if engine not in _ENGINES:
        raise SetupError(f"--engine {engine}: a model folder is opened by {' or '.join(_ENGINES)}")
    quiet_libraries()
    target = TargetSettings(
        model=str(model),
        engine=engine,
        reasoning_format=reasoning_format,
        sampling=SamplingSettings(max_new_tokens=max_new_tokens),
    )
    found = asyncio.run(examine(target, questions=_lines(prompts) if prompts else ()))
    if as_json:
        print_json([dataclasses.asdict(check) for check in found])
    else:
        checks(wide_console(), [(check.what, check.holds, check.detail) for check in found])
    if not all(check.holds for check in found):
        raise SystemExit(EXIT_SETUP)


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    found = [line for line in lines if line]
    if not found:
        raise SetupError(f"{path} holds no prompts; write one per line")
    return found
