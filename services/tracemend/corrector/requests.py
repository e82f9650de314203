"""From the wish to ask a teacher to the request that travels: its settings digest, its id and its record.

The corrector's stage writes requests and the teacher's stage reads them; both know the plan and agree on digests
through this module. Ids and contents name no arm, so arms that ask for the same text share one piece of work.
"""

from __future__ import annotations

from collections.abc import Mapping

from tracemend.corrector import prompting
from tracemend.corrector.actions import AskTeacher
from tracemend.corrector.settings import CorrectSettings
from tracemend.kit.ids import digest_of, make_id
from tracemend.records import RewriteRequest


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
