"""Prompts that cannot be read: `tracemend run` names file, line and remedy, and `failures` claims nothing it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.unit.embedded.small_runs import TEXT

from tracemend.cli.__main__ import main


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    """Both streams of a command that ends with `code`; what was printed before is dropped."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code or 0) == code
    return "".join(capsys.readouterr())


def run_of(folder: Path, content: bytes) -> list[str]:
    """The arguments of a run over one file of prompts."""
    prompts, run_file = folder / "prompts.jsonl", folder / "run.yaml"
    prompts.write_bytes(content)
    source = f"  - {{source: jsonl, path: {prompts}, category: harmful}}\n"
    run_file.write_text(
        re.sub(r"  - \{source: numbered, count: (40|10).*\n", "", TEXT).replace("prompts:\n", f"prompts:\n{source}", 1)
    )
    return ["run", str(run_file), "--out", str(folder / "out")]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"prompt": "café"}\n'.encode("latin-1"), ["prompts.jsonl:1: ", "not UTF-8", "iconv"]),
        (b'{"prompt": "a"\n{"prompt": "b"\n', ["2 not_json, first", "prompts.jsonl:1: column "]),
        (b'{"prompt": "' + b"x" * 10_000_000 + b'"}\n', ["1 too_long, first", "prompts.jsonl:1: "]),
        (b'{"prompt": " "}\n', ["1 empty, first", "prompts.jsonl:1: "]),
    ],
)
def test_a_file_without_a_single_prompt_is_refused_by_line_and_remedy(
    tmp_path: Path, content: bytes, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = said(capsys, *run_of(tmp_path, content), code=2)
    assert "none of the" in message
    assert all(part in message for part in told), message
    assert "No prompts were admitted yet" in said(capsys, "failures", str(tmp_path / "out"), code=0)


def test_what_is_kept_aside_of_a_good_file_is_named_on_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = b'{"prompt": "Null prompt number 1."}\n{"prompt": "Null prompt number 2."\n{"prompt": 5}\n'
    message = said(capsys, *run_of(tmp_path, rows), code=2)  # one prompt is too few for both arms
    assert "2 of 3 rows kept aside\n" in message
    assert re.search(r"^  1 not_json, first .*prompts\.jsonl:2: .* whole JSON object$", message, re.MULTILINE)
    assert re.search(r"^  1 not_text, first .*prompts\.jsonl:3: ", message, re.MULTILINE)
    assert "0 harmful, 0 benign" in message
