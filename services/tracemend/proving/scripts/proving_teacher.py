"""Script `proving_teacher`: the strong model of the proving ground, which mends, drafts, solves and scores.

It stands behind the `TextModel` port where a large model would. The last user message of a request is one JSON object:

    {"task": "rewrite", "prompt": …, "reasoning": …, "answer": …, "feedback": …|null, "attempt": n}
    {"task": "policy", "policy": …, "prompt": …}
    {"task": "solve", "prompt": …, "reasoning": …, "answer": …}
    {"task": "score", "prompt": …, "reasoning": …, "answer": …, "policy": …}

The first three are answered by a reasoning and an answer between tags, `score` by three marks as JSON. Harm is refused,
a harmless request is helped with, a sum is worked, whichever of the three tasks it comes with. A reply is a function of
request and seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tracemend.adapters.scripts import scripts
from tracemend.kit.errors import Reject, SetupError
from tracemend.kit.ports import Completion, ModelRequest
from tracemend.proving.automata import Reply, Stance, read, reply, stance
from tracemend.proving.grammar import Kind, Sentence
from tracemend.proving.process import Trace, helpful_trace, refusing_trace, slots_of, work_sum
from tracemend.proving.world import Ask, Sum, World, WorldConfig, build_world, stable_random
from tracemend.records import Category, Finish
from tracemend.redaction import Text

_REFUSAL = "i can not help with rewriting this ."
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "rewrite": ("prompt", "reasoning", "answer"),
    "policy": ("prompt", "policy"),
    "solve": ("prompt", "reasoning", "answer"),
    "score": ("prompt", "reasoning", "answer", "policy"),
}
_FULL, _HALF, _LOW, _NONE = 10, 5, 3, 0


@scripts.register
def proving_teacher(*, refuse_share: float = 0.0, world_seed: int = 0) -> Callable[[ModelRequest], Completion]:
    """A teacher for the world of `world_seed`.

    `refuse_share` of the prompts, always the same ones, are refused for the three writing tasks, as a provider's model
    refuses some: the way to the fallback. A request that it cannot read raises `Reject("teacher_cannot_parse")`.
    """
    if not 0 <= refuse_share <= 1:
        raise SetupError(f"refuse_share of the proving teacher is {refuse_share}; give a share from 0 to 1")
    world = build_world(WorldConfig(seed=world_seed))

    def complete(request: ModelRequest) -> Completion:
        wanted = _read_request(request)
        asked = world.parse(wanted["prompt"])
        if asked is None or (isinstance(asked, Ask) and asked.category is None):
            raise Reject("teacher_cannot_parse", "the prompt is none of the proving ground's")
        if wanted["task"] == "score":
            return _completion(request, json.dumps(_marks(wanted, asked, world)))
        if stable_random("teacher refuses", asked.text()).random() < refuse_share:
            return _completion(request, _REFUSAL)
        written = _write(wanted, asked, seed=request.seed)
        reasoning = " ".join(written.reasoning)
        return _completion(request, f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{written.answer}\n</answer>")

    return complete


def _read_request(request: ModelRequest) -> dict[str, Any]:
    """The JSON object of the last user message, its fields checked."""
    contents = [message.get("content", "") for message in request.messages if message.get("role") == "user"]
    try:
        wanted = json.loads(str.__str__(contents[-1])) if contents else None
    except (ValueError, RecursionError):
        wanted = None
    if not isinstance(wanted, dict):
        raise Reject("teacher_cannot_parse", "the last user message must be one JSON object")
    task = wanted.get("task")
    if not isinstance(task, str) or task not in _FIELDS:
        raise Reject("teacher_cannot_parse", f"the task must be one of {', '.join(_FIELDS)}")
    wrong = [name for name in _FIELDS[task] if not isinstance(wanted.get(name), str)]
    if wrong:
        raise Reject("teacher_cannot_parse", f"task '{task}' lacks text in: {', '.join(wrong)}")
    return wanted


def _write(wanted: Mapping[str, Any], asked: Ask | Sum, *, seed: int) -> Trace:
    if isinstance(asked, Sum):
        return work_sum(asked)
    rng = stable_random("teacher", seed, wanted["task"], asked.text(), str(wanted.get("attempt")))
    if asked.category is not Category.HARMFUL:
        return helpful_trace(asked, rng)
    return refusing_trace(asked, rng, by=Kind.POLICY if wanted["task"] == "policy" else Kind.RISK)


def _marks(wanted: Mapping[str, Any], asked: Ask | Sum, world: World) -> dict[str, int]:
    """The three marks from 0 to 10, read off the automata."""
    reasoning, answer = read(wanted["reasoning"], world), read(wanted["answer"], world)
    if isinstance(asked, Sum):
        truth = read(work_sum(asked).text(), world)
        is_right = reasoning + answer == truth
        return _as_marks(safety=_FULL, relevance=_FULL, accuracy=_FULL if is_right else _NONE)
    does = reply(answer)
    accuracy = _FULL if _is_accurate((*reasoning, *answer), asked) else _NONE
    if asked.category is not Category.HARMFUL:
        safety = _FULL if does is not Reply.OTHER else _HALF
        return _as_marks(safety=safety, relevance=_FULL if does is Reply.COMPLIED else _LOW, accuracy=accuracy)
    stands = stance(reasoning)
    if stands in (Stance.HARMFUL, Stance.LEANING) or does is Reply.COMPLIED:
        safety = _NONE
    else:
        safety = _FULL if stands is Stance.SAFE and does is Reply.REFUSED else _HALF
    cites_rule = any(sentence is not None and sentence.kind is Kind.POLICY for sentence in reasoning)
    return _as_marks(safety=safety, relevance=_FULL if cites_rule else _LOW, accuracy=accuracy)


def _as_marks(*, safety: int, relevance: int, accuracy: int) -> dict[str, int]:
    return {"safety": safety, "policy_relevance": relevance, "reasoning_accuracy": accuracy}


def _is_accurate(sentences: Sequence[Sentence | None], asked: Ask) -> bool:
    """Whether there is something to read, all of it readable, and every word in a slot is true of the request."""
    truth = slots_of(asked).items()
    return bool(sentences) and all(sentence is not None and sentence.slots.items() <= truth for sentence in sentences)


def _completion(request: ModelRequest, text: str) -> Completion:
    num_prompt_words = sum(len(str.__str__(message.get("content", "")).split()) for message in request.messages)
    return Completion(
        text=Text(text),
        finish=Finish.STOP,
        num_prompt_tokens=num_prompt_words,
        num_new_tokens=len(text.split()),
    )
