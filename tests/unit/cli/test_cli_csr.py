"""`tracemend csr`: what it refuses at once, and what it makes of an analysis. The measuring has tests of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.unit.embedded.continued_traces import (
    SAFE,
    TEMPLATE,
    UNSAFE,
    RuleModel,
    analyser,
    generator,
    judged,
    opened,
    trace,
)

from tracemend.cli.__main__ import main
from tracemend.cli.csr import Output, show
from tracemend.corrector.triggers import TriggerKind, pool
from tracemend.embedded.csr import Analysis
from tracemend.kit.errors import SetupError


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """An unsafe and a safe trace of two prompts."""

    async def body() -> Analysis:
        async with opened(tmp_path_factory.mktemp("run")) as (workspace, plan):
            verdicts = await judged(workspace, plan, [trace(UNSAFE), trace(SAFE, index=1)])
            return await analyser(workspace, plan).measure(verdicts, generator(RuleModel()), TEMPLATE)

    return asyncio.run(body())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name trajectories"),
        (("trajectory_a", "--uncertain", "1"), "name trajectories"),
        (("--uncertain", "1", "--figures", "gif"), "svg, png, none"),
        (("--uncertain", "1", "--triggers", "mined.txt"), "a .yaml file"),
        (("--uncertain", "1", "--triggers", "no/folder/mined.yaml"), "no file can be written there"),
        (("--uncertain", "1", "--every", "word"), "every"),
        (("--uncertain", "1", "--safe-at-least", "0.1"), "must lie below"),
        (("--uncertain", "1"), "holds no run"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["csr", str(tmp_path), *arguments])
    assert ended.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert says in told
    assert "Value error" not in told, "the words of a library"


def test_a_set_is_told_by_a_row_for_each_trace(
    found: Analysis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(found, tmp_path, Output())
    told = capsys.readouterr().out
    assert all(t.curve.trajectory[:18] in told for t in found.traces)
    assert "SYNTHETIC" in told
    assert {path.stem for path in (tmp_path / "csr").glob("*.svg")} == {t.curve.trajectory for t in found.traces}


def test_words_of_models_are_shown_only_when_asked_for(
    found: Analysis, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a terminal that breaks no sentence
    words = found.mined[0].text.reveal()
    for as_json in (False, True):
        show(found, tmp_path, Output(as_json=as_json))
        assert words not in capsys.readouterr().out
        assert not any(words in path.read_text(encoding="utf-8") for path in (tmp_path / "csr").iterdir())
    show(found, tmp_path, Output(reveal=True))
    assert words in capsys.readouterr().out
    assert any(words in path.read_text(encoding="utf-8") for path in (tmp_path / "csr").iterdir())


def test_json_is_one_document_with_every_point(
    found: Analysis, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(found, tmp_path, Output(as_json=True, figures="none"))
    told = json.loads(capsys.readouterr().out)
    assert told["figures"] == []
    assert [t["turning"] for t in told["traces"]] == [
        {"safe": t.turning.safe, "unsafe": t.turning.unsafe} for t in found.traces
    ]
    for row, trace_ in zip(told["traces"], found.traces, strict=True):
        assert [point["ratio"] for point in row["ratios"]] == [p.reasoning.ratio for p in trace_.curve.points]


def test_mined_triggers_are_a_pool_that_strategies_read(found: Analysis, tmp_path: Path) -> None:
    path = tmp_path / "mined.yaml"
    show(found, tmp_path, Output(figures="none", triggers=path))
    assert [(t.id, t.text, t.kind) for t in pool(str(path))] == [
        (t.id, t.text, TriggerKind.SAFETY) for t in found.mined
    ]
    with pytest.raises(SetupError, match="no sentence turned 2 prompts"):
        show(found, tmp_path, Output(figures="none", triggers=tmp_path / "none.yaml", min_prompts=2))
    assert not (tmp_path / "none.yaml").exists()
