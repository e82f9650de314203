"""`tracemend guard serve`: what it refuses before a model is opened. Serving has tests of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracemend.cli.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--detector is missing"),
        (("--detector", "rule_cues"), "did you mean 'rule_cue'?"),
        (("--detector", "llm_cue"), "needs `model`"),
        (("--detector", "rule_cue", "--detector-option", "extra=let me"), "list of phrases"),
        (("--detector", "rule_cue", "--triggers", "none"), "no trigger pool 'none'"),
        (("--detector", "rule_cue", "--mode", "on"), "--mode: "),
        (("--mode", "off", "--top-p", "7"), "--top-p: "),
        (("--mode", "off", "--option", "refusal=[no"), "no YAML"),
        (("--mode", "off", "--option", "refusal"), "NAME=VALUE"),
        (("--mode", "off", "--option", "chunk_tokens=1.5"), "chunk_tokens"),
        (("--mode", "off", "--option", "untagged_tokens=-1"), "untagged_tokens"),
        (("--mode", "off", "--option", "mode=off"), "beside `options`"),
        (("--mode", "off"), "is not a folder"),
        (("--mode", "off", "--model", "transformers:"), "names no model"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = () if "--model" in arguments else ("--model", f"transformers:{tmp_path / 'nothing'}")
    with pytest.raises(SystemExit) as ended:
        main(["guard", "serve", *model, "--port", "0", *arguments])
    assert ended.value.code == 2
    assert says in " ".join(capsys.readouterr().err.split())
