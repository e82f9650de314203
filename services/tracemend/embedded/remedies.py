"""What did not end well in a run, grouped by reason, each with what can be done about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tracemend.corrector.settings import Rule
from tracemend.embedded.looking import OpenRun
from tracemend.records import OutcomeState

_ENDED_WELL = frozenset({OutcomeState.KEPT.value, OutcomeState.CORRECTED.value})

_REMEDIES = {
    "still_unsafe": "the new texts stay unsafe: use a stronger teacher, name a fallback or raise `attempts`; of forks, "
    "the verifier finds harm where the detector finds no cue: compare the two with `tracemend judge`",
    "unknown_verdict": "the judge's replies do not parse or judge unfinished texts: look at one with `tracemend trace`",
    "teacher_refused": "the teacher refuses these prompts: name a `fallback` model",
    "provider_filter": "the provider withholds replies: name a `fallback` model at another provider",
    "crashed_repeatedly": "working on these crashed the process three times alone: see the log, then `redrive`",
    "refused": "the target refuses these harmless prompts: it has no answer of its own to keep",
    "wrong": "all samples are wrong: set `keep.correct_wrong: true` to have the teacher solve them",
    "easy": "not every sample is unsafe: UnsafeChain works on the hard ones; `select.rule` widens it",
    "not_all_safe": "SafeChain keeps prompts whose samples are all safe; `select.rule` widens it",
    "safe": "these samples are safe as they are: there is nothing to mend",
    "answered": "the first stage's model does not refuse these harmless prompts: there is nothing to take back",
    "all_safe": "no sample is unsafe, so none is there to set a safe one against",
    "all_unsafe": "no sample is safe: natural pairs need one of each, `intervene` does not",
    "safe_unusable": "samples with safe reasoning have an unsafe, empty or missing answer",
    "rounds_spent": "forks turn to complying again: raise the option `rounds`, or use triggers that hold better",
    "no_cue": "judged unsafe, but the detector finds no cue to cut at: look at one, or use another detector",
    "cue_unknown": "the detector could not tell: look at its reply with `tracemend trace`, or use another detector",
    "cue_in_prefix": "the detector finds the cue in what was kept or in the trigger: use other triggers, or another "
    "detector",
    "no_token_ids": "responses without token ids cannot be cut: set `target.engine` to transformers or vllm",
    "no_detector": "nobody looked for cues: name a detector in `judge.detector` and `run --from judge`",
    "unfinished": "samples hit `max_new_tokens` before they ended: raise it",
    "dead": "a sample or text before it was given up: see the other reasons, mend their cause, then `redrive`",
    "sample_missing": "the run planned more samples than there are: `run --from sample`",
    "trigger_missing": "the pool no longer has the trigger that the unit was planned with: put it back, then `redrive`",
    "original_missing": "the verdict on the sample is not in the store: `verify` says what else is gone, `run --from "
    "judge` makes it again",
    "prompt_too_long": "prompt and response do not fit into the context: lower `max_new_tokens` or serve a longer one",
    "empty_prompt": "the prompt renders to no token: look at one with `tracemend trace`, mend the source",
    "no_chat_template": "the model has no chat template: add one to its folder; `doctor` examines it",
    "chat_template_refused": "the server's chat template refuses the conversation: `target.system` may be what it does "
    "not take",
    "unknown_tokens": "ids that the engine's model does not have: target and tokenizer folder are not one model",
    "tag_in_reasoning": "the new reasoning spells the closing tag: raise `attempts`, or use another teacher",
    "reasoning_without_place": "`target.reasoning_format` has no reasoning: set it to the format of the model",
    "teacher_cannot_parse": "the teacher's replies do not hold both parts: use a stronger one or name a `fallback`",
    "no_teacher": "the arm names no `correct.teacher`",
    "below_full_marks": "the policy's text did not get full marks: a stronger teacher, or more `drafts`",
    "unscored": "the scoring judge's reply does not parse: look at one with `tracemend trace`",
    "missing_part": "reasoning or answer is empty: `doctor` tells whether the tags are read rightly",
    "part_too_short": "the new text is shorter than the options allow: lower the bound, or raise `attempts`",
    "part_too_long": "the new text is longer than the options allow: raise the bound, or raise `attempts`",
    "mentions_original": "the new text speaks of the one it replaces: raise `attempts`, or use another teacher",
    "unsafe_sample": "this sample itself is unsafe: only safe ones are kept",
    **dict.fromkeys(
        ("unexpected_request", "unexpected_verdict", "unknown_arm"),
        "a message that the run's plan does not know: was its run file or release changed midway? `run` it again",
    ),
    "not_drawn": "another sample of the prompt was drawn: nothing is wrong",
    "unknown": "the judge could not tell: look at its reply with `tracemend trace`, or use another judge",
}


_BY_RULE = frozenset(f"not_{rule.value}" for rule in Rule)


def remedy_of(reason: str) -> str:
    """What can be done about units that ended for `reason`."""
    if reason in _REMEDIES:
        return _REMEDIES[reason]
    if reason in _BY_RULE:
        return "the prompt's samples are not what the arm selects by; `select.rule` widens it"
    return "look at one with `tracemend trace`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One reason and how often it ended something."""

    where: str
    """`row` for what ingestion kept out, else the arm."""
    state: str
    reason: str
    number: int
    remedy: str


async def failures(opened: OpenRun) -> list[Failure]:
    """Refused rows and units that gave no training row, most frequent first."""
    refused: Counter[str] = Counter()
    remedies: dict[str, str] = {}
    async for row in opened.workspace.ledger.refused(opened.run):
        refused[row.reason] += 1
        remedies.setdefault(row.reason, row.detail)
    found = [
        Failure(where="row", state="refused", reason=reason, number=number, remedy=f"first: {remedies[reason]}")
        for reason, number in refused.items()
    ]
    for (arm, state, reason), number in (await opened.workspace.ledger.outcome_counts(opened.run)).items():
        if state not in _ENDED_WELL:
            remedy = remedy_of(reason)
            found.append(Failure(where=arm, state=state, reason=reason, number=number, remedy=remedy))
    return sorted(found, key=lambda failure: (-failure.number, failure.where, failure.reason))
