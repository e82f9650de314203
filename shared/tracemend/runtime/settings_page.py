"""docs/settings.md, made from the settings' classes: `python -m tracemend.runtime.settings_page > docs/settings.md`.

A test compares the page with what this makes, so that a setting cannot be added without its page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_origin

from pydantic_core import PydanticUndefined

from tracemend.kit.secrets import Secret
from tracemend.runtime.program_configuration import Setting, settings_of
from tracemend.runtime.program_settings import SERVICES, ProcessSettings, ProgramSettings

_HEAD = """# Settings of the services

`tracemend serve SERVICE` reads settings from the file that `--config` names (YAML, the keys below) and from the
environment; a variable beats the file. `--check` tells all mistakes at once and stops. Everything about a run (models,
judges, arms, limits) stands in its run file and not here. This page is made from the code:
`python -m tracemend.runtime.settings_page > docs/settings.md`.

Secrets can lie in files: `NAME_FILE` names the file instead of the value, and the file is read again for every new
connection, so a rotated secret needs no restart.

## Exit codes

| code | meaning |
|---|---|
| 0 | told to stop (SIGTERM, SIGINT), and drained |
| 1 | a bug; the log tells its type and place |
| 2 | something must be set up; one message on standard error says what |
| 3 | something that the service needs was away for longer than `dependencies` allows |
| 4 | told to stop, and work in flight was given back; it is done again elsewhere |
| 128 + N | a second signal N ended it at once; work in flight counts as a crashed attempt |

## Probes

The port `http.port` answers `/healthz` (the event loop turns; nothing else, so that an outage restarts nobody),
`/readyz` (started, all dependencies answer, not draining) and `/metrics` (Prometheus).
"""
_TAIL = """## Variables of others

| variable | read by |
|---|---|
| `KAFKA_SECURITY_PROTOCOL`, `KAFKA_SSL_CAFILE` | `kafka:` buses |
| `KAFKA_SASL_MECHANISM`, `KAFKA_SASL_USERNAME`, `KAFKA_SASL_PASSWORD` | `kafka:` buses |
| `S3_ENDPOINT`, `S3_REGION`, `S3_CAFILE` | `s3:` stores, where their URL is silent |
| `S3_ACCESS_KEY`, `S3_SECRET_KEY` | `s3:` stores; `S3_SECRET_KEY_FILE` and `KAFKA_SASL_PASSWORD_FILE` name files |
| `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_PROTOCOL` and the SDK's others | traces; unset exports nothing |
"""
_KINDS = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}


def page() -> str:
    """The whole page."""
    of_all = {setting.key for setting in settings_of(ProcessSettings)}
    of_services = [setting for setting in settings_of(ProgramSettings) if setting.key not in of_all]
    parts = [_HEAD, "## Every process\n", _table(settings_of(ProcessSettings))]
    parts += ["## The services, all but the operator\n", _table(of_services)]
    common = of_all | {setting.key for setting in of_services}
    for service, kind in SERVICES.items():
        own = [setting for setting in settings_of(kind) if setting.key not in common]
        parts += [f"## {service}\n", f"{(kind.__doc__ or '').strip()}\n"]
        if own:
            parts.append(_table(own))
    return "\n".join([*parts, _TAIL])


def _table(settings: Iterable[Setting]) -> str:
    return "\n".join(["| key | variable | kind | default | meaning |", "|---|---|---|---|---|", *_rows(settings), ""])


def _rows(settings: Iterable[Setting]) -> Iterator[str]:
    for setting in settings:
        variable = f"`{setting.variable}`" + (f", `{setting.variable}_FILE`" if setting.is_secret else "")
        about = " ".join((setting.field.description or "").split()).replace("|", "\\|")
        yield f"| `{setting.key}` | {variable} | {_kind(setting.field.annotation)} | {_default(setting)} | {about} |"


def _kind(annotation: Any) -> str:
    """What a value looks like, for people."""
    origin, arguments = get_origin(annotation), [one for one in get_args(annotation) if one is not type(None)]
    if annotation is Secret:
        return "secret"
    if origin in (tuple, list, frozenset):
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping to {_kind(arguments[1])}"
    if arguments and all(isinstance(one, str) for one in arguments):
        return " or ".join(f"`{one}`" for one in arguments)
    if arguments:
        return _kind(arguments[0])
    name: str = annotation.__name__
    return _KINDS.get(name, name.lower())


def _default(setting: Setting) -> str:
    default = setting.field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required in its section" if setting.is_optional else "required"
    if default is None or default == "" or default == () or default == {} or default == frozenset():
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, dict):
        default = ", ".join(f"{key}: {value}" for key, value in sorted(default.items()))
    elif isinstance(default, tuple | frozenset):
        default = ", ".join(sorted(map(str, default)) if isinstance(default, frozenset) else map(str, default))
    return f"`{default}`"


if __name__ == "__main__":
    sys.stdout.write(page())
