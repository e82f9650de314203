"""Settings come from a file and the environment, and all mistakes are told at once without showing a value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tracemend.kit.errors import SetupError
from tracemend.kit.secrets import HIDDEN, Secret, secret_of
from tracemend.runtime.program_configuration import load, misspelt, settings_of
from tracemend.runtime.program_settings import SERVICES, JudgeSettings
from tracemend.runtime.settings_page import page

NEEDED = {"TRACEMEND_BUS": "memory:", "TRACEMEND_STORE": "file:x", "TRACEMEND_LEDGER": "sqlite:hidden-password"}
PASSWORD = "hidden-password"


def refused(environ: dict[str, str], text: str = "", *, folder: Path) -> str:
    file = folder / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SetupError) as told:
        load(JudgeSettings, file=file, environ=environ)
    return str(told.value)


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("http: {port: 1, host: 127.0.0.1}\nprices: {target: {per_engine_hour: 2}}", encoding="utf-8")
    settings = load(JudgeSettings, file=file, environ=NEEDED | {"TRACEMEND_HTTP_PORT": "2"})
    assert (settings.http.port, settings.http.host) == (2, "127.0.0.1")
    assert settings.prices["target"].per_engine_hour == 2


def test_lists_and_mappings_can_be_variables() -> None:
    given = {
        "TRACEMEND_RPC_PEER_NAMES": "judge, trainer",
        "TRACEMEND_PRICES": "{target: {per_engine_hour: 2}}",
        "TRACEMEND_RPC_ANONYMOUS_ROLES": "[reviewer]",
    }
    settings = load(JudgeSettings, environ=NEEDED | given)
    assert settings.rpc.peer_names == ("judge", "trainer")
    assert settings.prices["target"].per_engine_hour == 2
    assert [role.value for role in settings.rpc.anonymous_roles] == ["reviewer"]


def test_every_mistake_is_told_in_one_error_and_no_value(tmp_path: Path) -> None:
    environ = {
        "TRACEMEND_LEDGER": PASSWORD,
        "TRACEMEND_LEDGER_FILE": "/nowhere",
        "TRACEMEND_HTTP_PORT": "secret-port",
        "TRACEMEND_STROE": "x",
        "TRACEMEND_PRICES": "{a: [",
        "TRACEMEND_TARGET_URL": "of a run file",
    }
    told = refused(environ, "lgo: {level: info}\nconcurrency: 0\nrpc: hidden-password\n", folder=tmp_path)
    for part in (
        "9 mistakes",
        "TRACEMEND_LEDGER and TRACEMEND_LEDGER_FILE",
        "TRACEMEND_STROE: no such setting; did you mean TRACEMEND_STORE?",
        "TRACEMEND_PRICES: is not YAML",
        "TRACEMEND_HTTP_PORT: it is a text of 11 characters; input should be a valid integer",
        "bus: is missing; set TRACEMEND_BUS",
        "lgo in",
        "concurrency in",
        "rpc in",
    ):
        assert part in told
    assert "TRACEMEND_TARGET_URL" not in told
    assert "secret-port" not in told
    assert PASSWORD not in told


def test_no_variable_that_another_program_reads_is_taken_for_a_misspelt_setting() -> None:
    sources = (file.read_text(encoding="utf-8") for top in ("services", "shared") for file in Path(top).rglob("*.py"))
    named = {name for text in sources for name in re.findall(r"\bTRACEMEND_[A-Z_]*[A-Z]\b", text)}
    assert {"TRACEMEND_CACHE", "TRACEMEND_DATA", "TRACEMEND_TOKEN_FILE"} <= named
    for kind in SERVICES.values():
        known = list(settings_of(kind))
        assert misspelt(known, dict.fromkeys(named, "x")) == []


@pytest.mark.parametrize(
    ("text", "part"), [("a: [b", "is not YAML, see line"), ("- a", "holds it is a list where"), ("a: \xff", "")]
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, text: str, part: str) -> None:
    assert part in refused(NEEDED, text, folder=tmp_path)
    with pytest.raises(SetupError, match="cannot be read"):
        load(JudgeSettings, file=tmp_path, environ=NEEDED)


def test_a_secret_is_read_anew_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "dsn"
    file.write_text(f"{PASSWORD}\n")
    environ = {name: value for name, value in NEEDED.items() if name != "TRACEMEND_LEDGER"}
    settings = load(JudgeSettings, environ=environ | {"TRACEMEND_LEDGER_FILE": str(file)})
    assert settings.ledger.reveal() == PASSWORD
    file.write_text("rotated")
    assert settings.ledger.reveal() == "rotated"
    direct = load(JudgeSettings, environ=NEEDED)
    assert HIDDEN in repr(direct)
    assert PASSWORD not in repr(direct) + str(direct.ledger) + direct.model_dump_json() + f"{direct.ledger}"


def test_a_secret_that_is_gone_or_empty_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for file in (empty, tmp_path / "none"):
        with pytest.raises(SetupError, match=file.name):
            Secret(file=file).reveal()
    with pytest.raises(SetupError, match="both set"):
        secret_of("A", {"A": "1", "A_FILE": "2"})
    assert secret_of("A", {"A": "1"}).reveal() == "1"
    assert not secret_of("A", {})


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_names_one_setting(service: str) -> None:
    settings = list(settings_of(SERVICES[service]))
    names = [s.variable for s in settings] + [f"{s.variable}_FILE" for s in settings if s.is_secret]
    assert len(names) == len(set(names))


def test_the_page_of_settings_is_up_to_date() -> None:
    """If not: `python -m tracemend.runtime.settings_page > docs/settings.md`."""
    assert (Path(__file__).parents[3] / "docs" / "settings.md").read_text(encoding="utf-8") == page()
