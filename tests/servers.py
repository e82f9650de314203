"""Killing, pausing and starting real servers: for tests of what the rest does when one goes away.

TRACEMEND_SERVERS_CTL says who does it: `compose` for docker/compose.yaml, otherwise a command that knows the verbs
`kill NAME`, `pause NAME`, `resume NAME` and `up` (which starts what is down, on the same port with the same data). A
server is `kafka-1`, `minio` or `postgres`. Whoever breaks a server mends it: use `broken`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.needs import needs_server

COMPOSE_FILE = Path(__file__).parents[1] / "docker" / "compose.yaml"
_LIMIT_S = 180.0


class Control(Protocol):
    def kill(self, name: str) -> None:
        """SIGKILL: no goodbye, no flush."""
        ...

    def pause(self, name: str) -> None:
        """Alive but silent: connections stay open and nobody answers."""
        ...

    def resume(self, name: str) -> None: ...

    def up(self) -> None:
        """Start what is down, and return once all answer."""
        ...


@dataclass(frozen=True)
class CommandControl:
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    servers: Sequence[str] = ()
    """What `up` starts; all that there are if empty."""

    def kill(self, name: str) -> None:
        _run([*self.command, "kill", name], self.environ)

    def pause(self, name: str) -> None:
        _run([*self.command, "pause", name], self.environ)

    def resume(self, name: str) -> None:
        _run([*self.command, "resume", name], self.environ)

    def up(self) -> None:
        _run([*self.command, "up", *self.servers], self.environ)


@dataclass(frozen=True)
class ComposeControl:
    command: Sequence[str]
    """The container engine's compose, with the file."""

    def kill(self, name: str) -> None:
        _run([*self.command, "kill", _service(name)])

    def pause(self, name: str) -> None:
        _run([*self.command, "pause", _service(name)])

    def resume(self, name: str) -> None:
        _run([*self.command, "unpause", _service(name)])

    def up(self) -> None:
        _run([*self.command, "up", "--detach", "--wait"])


def needs_control() -> Control:
    """The control that TRACEMEND_SERVERS_CTL names; a test that needs it and finds none ends with the reason."""
    said = needs_server("TRACEMEND_SERVERS_CTL")
    if said != "compose":
        return CommandControl(shlex.split(said))
    engine = "docker" if shutil.which("docker") else "podman"
    return ComposeControl([engine, "compose", "--file", str(COMPOSE_FILE)])


@contextmanager
def own_servers(*servers: str) -> Iterator[tuple[Control, Mapping[str, str]]]:
    """Servers that a test may break without disturbing others, and the environment that leads to them.

    A command is given a fresh folder in INFRA_STATE, and must know the verbs `env` and `down --wipe` as well. Compose
    has one set of servers: those are shared, so break them in a run of its own (`-n 0`).
    """
    control = needs_control()
    if not isinstance(control, CommandControl):
        yield control, os.environ
        return
    folder = tempfile.mkdtemp(prefix="tracemend-own-", dir="/var/tmp")
    os.chmod(folder, 0o755)  # PostgreSQL runs under an account of its own
    own = CommandControl(control.command, {**os.environ, "INFRA_STATE": folder}, servers)
    try:
        own.up()
        lines = (line.removeprefix("export ") for line in _run([*own.command, "env"], own.environ).splitlines())
        yield own, {**own.environ, **dict(shlex.split(line)[0].split("=", 1) for line in lines if line)}
    finally:
        _run([*own.command, "down", "--wipe"], own.environ)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def broken(control: Control, name: str, how: str) -> Iterator[None]:
    """Server `name` is killed or paused (`how`) inside, and answers again afterwards whatever happened inside."""
    assert how in ("kill", "pause")
    control.kill(name) if how == "kill" else control.pause(name)
    try:
        yield
    finally:
        if how == "pause":
            control.resume(name)
        control.up()


def _service(name: str) -> str:
    """Compose runs one broker."""
    return "kafka" if name == "kafka-1" else name


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False, env=environ)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout
