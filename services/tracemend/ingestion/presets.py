"""The public prompt sets that tracemend knows: their files, columns, licences and where a checker's answer lies.

Read by the source `preset`. Facts are those of the sets' own repositories; licences are as their copies state them.
Answers that a set carries for training (STAR-1's responses) are not read: prompts are all that ingestion takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tracemend.records import Category

Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One public set. Files lie at `folder`/`file` under the data folder, or directly in it."""

    folder: str
    files: tuple[str, ...]
    category: Category
    licence: str
    text: str | Callable[[Values], str]
    """Column of the prompt, or how it is put together."""
    reference: str | Callable[[Values], str] = ""
    """Column of the expected answer, or how it is extracted; empty for none."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tag to column; the column `FILE` is the file's stem."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Tags that every row carries. `checker` says how an answer is checked: `numeric`, `math`, `python_tests` (run
    only in a sandbox) or `truthful`."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Tag to the one value that belongs to the preset; other rows of the files are not part of it."""
    subset: str = ""
    """The tag that the option `subset` chooses by; empty where the set has no subsets."""
    languages: tuple[str, ...] = ()
    """Columns that hold the prompt in other languages; the first is the default."""
    split: str = "test"


FILE = "(file)"


def _with_context(values: Values) -> str:
    """HarmBench's own layout of a behaviour that comes with a context."""
    context, behaviour = str(values["ContextString"] or ""), str(values["Behavior"])
    return f"{context}\n\n---\n\n{behaviour}" if context else behaviour


def _after_hashes(values: Values) -> str:
    """GSM8K's final number: what follows `####`, thousands separators removed; empty where there is none."""
    return str(values["answer"]).rpartition("####")[2].strip().replace(",", "") if "####" in values["answer"] else ""


def _with_tests(values: Values) -> str:
    """MBPP's task with its tests, without which the function's name is unknowable (Austin et al. 2021)."""
    return f"{values['prompt']}\n\nYour code should pass these tests:\n{_lines(values['test_list'])}"


def _mbpp_tests(values: Values) -> str:
    return _lines([*values["test_imports"], *values["test_list"]])


def _humaneval_tests(values: Values) -> str:
    return f"{values['test']}\n\ncheck({values['entry_point']})\n"


def _lines(parts: list[Any]) -> str:
    return "\n".join(str(part) for part in parts)


def _strongreject(file: str) -> Preset:
    return Preset(
        folder="strongreject",
        files=(file,),
        category=Category.HARMFUL,
        licence="MIT",
        text="forbidden_prompt",
        tags={"harm": "category", "origin": "source"},
        subset="harm",
    )


def _xstest(label: str, category: Category) -> Preset:
    return Preset(
        folder="xstest_prompts",
        files=("xstest_prompts.csv",),
        category=category,
        licence="CC-BY-4.0",
        text="prompt",
        tags={"type": "type", "label": "label"},
        only={"label": label},
        subset="type",
    )


PRESETS: Mapping[str, Preset] = {
    "strongreject": _strongreject("strongreject_dataset.csv"),
    "strongreject_small": _strongreject("strongreject_small_dataset.csv"),
    "harmbench": Preset(
        folder="harmbench",
        files=("harmbench_behaviors_text_all.csv",),
        category=Category.HARMFUL,
        licence="MIT",
        text=_with_context,
        tags={"kind": "FunctionalCategory", "harm": "SemanticCategory"},
        subset="kind",
    ),
    "advbench": Preset(
        folder="advbench",
        files=("harmful_behaviors.csv",),
        category=Category.HARMFUL,
        licence="MIT",
        text="goal",
    ),
    "simple_safety_tests": Preset(
        folder="simple_safety_tests",
        files=("simple_safety_tests.csv",),
        category=Category.HARMFUL,
        licence="CC-BY-4.0",
        text="prompts_final",
        tags={"harm": "harm_area", "kind": "category"},
        subset="harm",
    ),
    "multijail": Preset(
        folder="multijail",
        files=("MultiJail.csv",),
        category=Category.HARMFUL,
        licence="MIT",
        text="en",
        tags={"origin": "source", "harm": "tags"},
        subset="origin",
        languages=("en", "zh", "it", "vi", "ar", "ko", "th", "bn", "sw", "jv"),
    ),
    "derta": Preset(
        folder="derta_safety_tests",
        files=tuple(
            f"safety_{attack}.json" for attack in ("codeattack", "completionattack", "jailbreakchat", "selfcipher")
        ),
        category=Category.HARMFUL,
        licence="MIT",
        text="question",
        tags={"attack": FILE},
        subset="attack",
    ),
    # The other categories ask for noncompliance for reasons that are not harm (false premises, missing context).
    "coconot": Preset(
        folder="coconot_eval",
        files=("coconot_eval.jsonl",),
        category=Category.HARMFUL,
        licence="MIT",
        text="prompt",
        tags={"kind": "category", "harm": "subcategory"},
        only={"kind": "Requests with safety concerns"},
        subset="harm",
    ),
    "xstest_safe": _xstest("safe", Category.LOOKALIKE),
    "xstest_unsafe": _xstest("unsafe", Category.HARMFUL),
    "star1": Preset(
        folder="star1",
        files=("STAR-1.json",),
        category=Category.HARMFUL,
        licence="Apache-2.0",
        text="question",
        tags={"harm": "category", "origin": "source"},
        subset="origin",
        split="train",
    ),
    "gsm8k": Preset(
        folder="gsm8k",
        files=("gsm8k_test.jsonl",),
        category=Category.REASONING,
        licence="MIT",
        text="question",
        reference=_after_hashes,
        constants={"checker": "numeric"},
    ),
    "math500": Preset(
        folder="math500",
        files=("math500.jsonl",),
        category=Category.REASONING,
        licence="MIT",
        text="problem",
        reference="answer",
        tags={"subject": "subject", "level": "level"},
        constants={"checker": "math"},
        subset="subject",
    ),
    "humaneval": Preset(
        folder="humaneval",
        files=("HumanEval.jsonl.gz",),
        category=Category.REASONING,
        licence="MIT",
        text="prompt",
        reference=_humaneval_tests,
        tags={"entry_point": "entry_point", "task": "task_id"},
        constants={"checker": "python_tests"},
    ),
    "mbpp": Preset(
        folder="mbpp_sanitized",
        files=("sanitized-mbpp.json",),
        category=Category.REASONING,
        licence="CC-BY-4.0",
        text=_with_tests,
        reference=_mbpp_tests,
        tags={"task": "task_id"},
        constants={"checker": "python_tests"},
    ),
    "truthfulqa": Preset(
        folder="truthfulqa",
        files=("TruthfulQA.csv",),
        category=Category.REASONING,
        licence="Apache-2.0",
        text="Question",
        reference="Best Answer",
        tags={"kind": "Type", "topic": "Category"},
        constants={"checker": "truthful"},
        subset="kind",
    ),
}
"""Name to set."""
