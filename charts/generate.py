"""Makes the chart's values.yaml, its schema and its README's table from `values_chart`: `python charts/generate.py`.

With `--check` it writes nothing, and ends with 1 where a file is not what this would make.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from values_chart import Values

CHART = Path(__file__).parent / "tracemend"
_MARK = "<!-- values: python charts/generate.py -->\n"
_TYPES = ("boolean", "integer", "number", "string")


def values_yaml() -> str:
    """All values with their defaults, each under its words."""
    head = (
        "# Made from charts/values_chart.py by `python charts/generate.py`; docs/install.md says what to set first.\n"
    )
    return head + "".join(f"{line}\n" for line in _lines(Values(), depth=0))


def _lines(section: BaseModel, *, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if name == "global_":
            continue
        if field.description:
            yield from (f"{indent}# {line}" for line in field.description.splitlines())
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, depth=depth + 1)
        else:
            yield f"{indent}{name}: {_inline(value)}"


def _inline(value: Any) -> str:
    return json.dumps(value)


def schema() -> str:
    """The schema by which Helm refuses what it does not know."""
    made = Values.model_json_schema(by_alias=True)
    made["$schema"] = "http://json-schema.org/draft-07/schema#"
    return json.dumps(_nullable(made), indent=1) + "\n"


def _nullable(node: Any) -> Any:
    """Without defaults and titles: values.yaml has the ones, and the others say nothing."""
    if isinstance(node, dict):
        return {
            key: _nullable(value)
            for key, value in node.items()
            if key != "default" and not (key == "title" and isinstance(value, str))
        }
    return [_nullable(each) for each in node] if isinstance(node, list) else node


def readme(text: str) -> str:
    """The README with its table made anew."""
    head, mark, _ = text.partition(_MARK)
    assert mark, "the README has a place for the table"
    rows = "".join(f"| `{key}` | `{default}` | {words} |\n" for key, default, words in _rows(Values(), prefix=""))
    return f"{head}{mark}\n| value | default | meaning |\n|---|---|---|\n{rows}"


def _rows(section: BaseModel, *, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), f"{prefix}{name}"
        if name == "global_":
            continue
        words = " ".join((field.description or "").split()).replace("|", "\\|")
        if isinstance(value, BaseModel):
            if words:
                yield key, "", words
            yield from _rows(value, prefix=f"{key}.")
        else:
            yield key, _inline(value), words


def main() -> int:
    """Write the files, or tell which are stale."""
    check = "--check" in sys.argv[1:]
    page = CHART / "README.md"
    made = {
        CHART / "values.yaml": values_yaml(),
        CHART / "values.schema.json": schema(),
        page: readme(page.read_text(encoding="utf-8")),
    }
    yaml.safe_load(made[CHART / "values.yaml"])
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path} is not what charts/generate.py makes; run it", file=sys.stderr)
        else:
            path.write_text(made[path], encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
