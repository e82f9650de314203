"""The alert rules, as promtool reads them: each fires where it must, stays quiet beside that, and leads to help."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.charts.alert_cases import CASES, SLOW, STUCK, WITHOUT_WORKERS, Series
from tests.needs import needs_tool
from typer.main import get_command

from tracemend.cli.app import app

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "charts" / "tracemend" / "files" / "alerts").glob("*.yaml"))
RUNBOOK = ROOT / "docs" / "runbook.md"


def rules() -> Iterator[Mapping[str, Any]]:
    for file in FILES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


NAMES = [rule["alert"] for rule in rules()]


def run_promtool(*arguments: str | Path) -> None:
    ended = subprocess.run([needs_tool("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def expected(alert: str, *, fires: bool, at: str) -> dict[str, Any]:
    expr = f'group(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    return {"expr": expr, "eval_time": at, "exp_samples": [{"labels": "{}", "value": 1}] if fires else []}


def course(series: Series, *expectations: dict[str, Any]) -> dict[str, Any]:
    """One test of promtool's: what is to be found in a course of the metrics."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": list(expectations),
    }


def check(folder: Path, alerts: Collection[str], *courses: dict[str, Any]) -> None:
    """Have promtool evaluate the rules of `alerts` over `courses`, and compare."""
    groups = [{"name": "these", "rules": [rule for rule in rules() if rule["alert"] in alerts]}]
    test = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": courses}
    for name, content in (("rules.yaml", {"groups": groups}), ("test.yaml", test)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    run_promtool("test", "rules", folder / "test.yaml")


def test_promtool_accepts_the_rules_without_a_word() -> None:
    run_promtool("check", "rules", "--lint=all", "--lint-fatal", *FILES)


def test_every_alert_has_its_case() -> None:
    assert sorted(NAMES) == sorted(CASES)


@pytest.mark.parametrize("alert", NAMES)
def test_it_fires_where_it_must_and_not_beside_that(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    check(
        tmp_path,
        {alert},
        course(case.fires, expected(alert, fires=True, at=case.at)),
        course(case.quiet, expected(alert, fires=False, at=case.at)),
    )


@pytest.mark.parametrize(
    ("series", "alert"),
    [
        (STUCK, "TracemendStageStuck"),
        (WITHOUT_WORKERS, "TracemendStageWithoutWorkers"),
        (SLOW, "TracemendStageSlow"),
    ],
)
def test_stuck_without_workers_and_slow_are_told_apart(series: Series, alert: str, tmp_path: Path) -> None:
    kinds = ("TracemendStageStuck", "TracemendStageWithoutWorkers", "TracemendStageSlow")
    check(tmp_path, kinds, course(series, *(expected(kind, fires=kind == alert, at="1h") for kind in kinds)))


def test_commands_of_the_runbook_exist() -> None:
    known = set(get_command(app).list_commands(None))  # type: ignore[attr-defined, arg-type]  # click's group
    assert set(re.findall(r"tracemend ([a-z]+)", RUNBOOK.read_text(encoding="utf-8"))) <= known


def test_every_alert_says_how_bad_it_is_what_it_saw_and_where_help_is() -> None:
    headings = re.findall(r"^#+ (.+)$", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbook.md"
        assert anchor in anchors, f"docs/runbook.md has no section for {rule['alert']}"
