"""`tracemend guard serve`: an OpenAI-compatible server whose reasoning is watched while it is written."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tracemend.cli.running import quiet_libraries
from tracemend.embedded.guarding import Serving, serve_guard
from tracemend.generator.settings import GuardSettings
from tracemend.judge.cues import detectors
from tracemend.judge.settings import DetectorChoice
from tracemend.kit.errors import SetupError
from tracemend.kit.logs import log_to_stderr

API_KEY = "TRACEMEND_GUARD_KEY"


def serve(
    engine: str,
    *,
    detector: str | None,
    detector_model: str | None,
    detector_options: Sequence[str],
    triggers: str,
    mode: str,
    guard_options: Sequence[str],
    engine_options: Sequence[str],
    name: str,
    tokenizer: Path | None,
    reasoning_format: str,
    limits: dict[str, Any],
    sampling: dict[str, Any],
    host: str,
    port: int,
    as_json: bool,
) -> None:
    """Serve until told to stop."""
    quiet_libraries()
    log_to_stderr()
    try:
        from tracemend.generator.guard_server import ServerSettings
    except ImportError as missing:
        raise SetupError(f"the guard server needs {missing.name}: install tracemend[guard]") from None
    if mode != "off" and detector is None:
        raise SetupError(f"--detector is missing: name one of {', '.join(detectors.names())}, or use --mode off")
    try:
        serving = Serving(
            engine=engine,
            guard=GuardSettings.model_validate({"mode": mode, "triggers": triggers, "options": _pairs(guard_options)}),
            detector=DetectorChoice(name=detector, model=detector_model, options=_pairs(detector_options))
            if detector and mode != "off"
            else None,
            name=name,
            tokenizer=tokenizer,
            reasoning_format=reasoning_format,
            engine_options=_pairs(engine_options),
        )
        settings = ServerSettings.model_validate({**limits, "sampling": sampling})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SetupError(f"--{str(first['loc'][-1]).replace('_', '-')}: {first['msg']}") from None
    key = os.environ.get(API_KEY, "")
    if not key and host not in ("127.0.0.1", "::1", "localhost"):
        print(f"tracemend: anybody who reaches {host} may use this model: {API_KEY} is not set", file=sys.stderr)

    def announce(address: str, model: str) -> None:
        told = {"event": "listening", "url": f"{address}/v1", "model": model, "mode": mode}
        print(json.dumps(told) if as_json else f"{model} ({mode}) at {address}/v1", flush=True)

    asyncio.run(serve_guard(serving, settings, host=host, port=port, api_key=key, announce=announce))


def _pairs(given: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` options; values are read as YAML, so numbers are numbers."""
    found: dict[str, Any] = {}
    for item in given:
        option, separator, value = item.partition("=")
        if not separator or not option:
            raise SetupError(f"{item}: write NAME=VALUE")
        try:
            found[option] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise SetupError(f"{item}: the value is no YAML; put words with brackets or colons in quotes") from None
    return found
