"""From the wish to ask a teacher, or to let the target go on, to the request that travels: its id and its record.

The corrector's stage writes requests; the teacher's stage reads rewrites, the generator forks. Corrector and teacher
know the plan and agree on digests through this module. Ids and contents name no arm, so arms that ask for the same text
share one piece of work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tracemend.corrector import prompting
from tracemend.corrector.actions import AskTeacher, Continue
from tracemend.corrector.settings import CorrectSettings
from tracemend.kit.ids import digest_of, make_id, seed_of
from tracemend.records import GenerationRequest, Intervention, RewriteRequest, Sampling

FORK = "trigger"
"""Kind of the intervention that makes a fork."""


def settings_digest(correct: CorrectSettings, identities: Mapping[str, str]) -> str:
    """Digest of all that a text depends on beside its cause: the section, our wording, and the models that it names.

    `identities` maps the run file's model names to what the engines call themselves.
    """
    models = {name: identities.get(name, "") for name in correct.models}
    return digest_of([correct.digest(), prompting.wording(), models])


def rewrite_request(ask: AskTeacher, *, settings: str) -> RewriteRequest:
    """The request of one attempt; `settings` is the arm's `settings_digest`."""
    variant = ask.unit.variant
    causes = (ask.verdict.id, ask.strategy, ask.attempt, variant, settings, ask.feedback)
    return RewriteRequest(
        id=make_id("rewrite", *causes),
        verdict=ask.verdict,
        strategy=ask.strategy,
        attempt=ask.attempt,
        variant=variant,
        settings=settings,
        feedback=ask.feedback,
    )


def fork_request(go: Continue, *, sampling: Sampling, revision: int) -> GenerationRequest:
    """The fork that the model of the cut trajectory is to write: from exactly the ids that it keeps.

    `sampling` is that of a fresh sample; what is kept counts towards its length, so no fork is longer than one.
    `revision` is the arm's: another number draws every fork anew.
    """
    parent, trigger = go.verdict.trajectory, go.trigger
    assert 0 <= go.cut_token <= len(parent.token_ids), "a cut lies in the response"
    step = Intervention(
        kind=FORK,
        strategy=go.strategy,
        producer=f"pool:{trigger.pool}",
        payload=trigger.text,
        cut_token=go.cut_token,
        attempt=go.attempt,
        variant=trigger.id,
    )
    left = dataclasses.replace(sampling, max_new_tokens=max(1, sampling.max_new_tokens - go.cut_token))
    request_id = make_id("fork", parent.id, step, left, revision)
    return GenerationRequest(
        id=request_id,
        prompt=parent.prompt,
        model=parent.model,
        sampling=left,
        sample=parent.sample,
        seed=seed_of(request_id),
        prefix_tokens=parent.token_ids[: go.cut_token],
        parent=parent.id,
        round=go.round,
        intervention=step,
    )
