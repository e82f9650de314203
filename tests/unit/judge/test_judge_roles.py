"""Who is asked about what: the judge of harm, the verifier of what was mended, the detector of cues."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from tests.builders import prompt, trajectory
from tests.fakes import FakeModel

from tracemend.judge.service import JudgeService
from tracemend.judge.settings import JudgeSettings
from tracemend.judge.stage import JudgeStage
from tracemend.kit.errors import Reject, Retry
from tracemend.kit.ports import Context, Message
from tracemend.records import Category, Finish, Intervention, Parse, Trajectory, Value, Verdict
from tracemend.redaction import Text
from tracemend.topics import TRAJECTORIES

GUARD = {"name": "llama_guard", "model": "guard"}
STRICT = {"name": "llama_guard", "model": "strict"}
CUES = {"name": "llm_cue", "model": "finder"}
TURNING = "they ask about it . let me see . here it is ."


class Models:
    """The models of a run; `asked` tells which were."""

    def __init__(self, *, guard: str = "safe", strict: str = "safe", finder: str | Exception = "2") -> None:
        replies: Mapping[str, str | Exception] = {"guard": guard, "strict": strict, "finder": finder}
        self.by_name = {name: FakeModel(reply, identity=name) for name, reply in replies.items()}

    @property
    def asked(self) -> set[str]:
        return {name for name, model in self.by_name.items() if model.requests}


class Locator:
    """Knows the ids of trajectories whose ids count their words."""

    def cut(self, trajectory: Trajectory, char: int) -> int:
        return len(trajectory.reasoning.reveal()[:char].split())


def service(models: Models, *, locator: Locator | None = None, **roles: Any) -> JudgeService:
    settings = JudgeSettings.model_validate({"harm": GUARD, "detector": CUES, **roles})
    return JudgeService.build(settings, models.by_name, locator=locator)


def graded(models: Models, of: Trajectory, **roles: Any) -> Verdict:
    return asyncio.run(service(models, locator=Locator(), **roles).grade(of))


def mended(kind: str = "trigger", **fields: Any) -> Trajectory:
    """A fork of a sample, or a rewrite."""
    step = Intervention(kind=kind, strategy="s", payload=Text("wait , no ."))
    return trajectory(reasoning=TURNING, request="fork", parent="sample", intervention=step, **fields)


def test_a_reasoning_that_is_not_safe_is_asked_where_it_turns() -> None:
    of = trajectory(reasoning=TURNING, token_ids=(1, 2, 3))
    verdict = graded(Models(guard="unsafe\nS1", finder="3"), of)
    assert verdict.cue is not None
    assert (verdict.cue.step, verdict.cue.num_steps) == (3, 3)
    assert TURNING[verdict.cue.char :] == "here it is ."
    assert verdict.cue.token == 9
    assert verdict.cue.detector == service(Models()).identity["detector"]


def test_a_safe_sample_costs_no_detector() -> None:
    models = Models(guard="safe")
    assert graded(models, trajectory(reasoning=TURNING)).cue is None
    assert models.asked == {"guard"}


def test_an_undecided_reasoning_is_asked_too() -> None:
    verdict = graded(Models(guard="well"), trajectory(reasoning=TURNING))
    assert verdict.reasoning.value is Value.UNKNOWN
    assert verdict.cue is not None
    assert verdict.cue.step == 2


def test_a_fork_is_asked_though_it_is_safe_and_a_safe_rewrite_is_not() -> None:
    fork, rewrite = graded(Models(finder="0"), mended()), graded(Models(finder="0"), mended("rewrite"))
    assert fork.cue is not None
    assert (fork.cue.step, fork.cue.char, fork.cue.token) == (0, -1, -1)
    assert rewrite.cue is None


@pytest.mark.parametrize("category", [Category.BENIGN, Category.REASONING])
def test_only_the_axis_of_harm_has_cues(category: Category) -> None:
    models = Models()
    of = trajectory(prompt(category=category, reference=Text("4")), reasoning=TURNING)
    assert graded(models, of).cue is None
    assert models.asked == set()


def test_without_a_detector_there_are_no_cues() -> None:
    assert graded(Models(guard="unsafe\nS1"), trajectory(reasoning=TURNING), detector=None).cue is None


def test_a_detector_that_rejects_could_not_tell_and_a_busy_one_is_waited_for() -> None:
    verdict = graded(Models(guard="unsafe\nS1", finder=Reject("too_long")), trajectory(reasoning=TURNING))
    assert verdict.cue is not None
    assert (verdict.cue.step, verdict.cue.labels) == (-1, ("too_long",))
    with pytest.raises(Retry):
        graded(Models(guard="unsafe\nS1", finder=Retry("busy")), trajectory(reasoning=TURNING))


def test_what_was_withheld_could_not_be_looked_at() -> None:
    models = Models()
    verdict = graded(models, trajectory(reasoning="", answer="", finish=Finish.FILTERED, parse=Parse.UNCLOSED))
    assert verdict.cue is not None
    assert (verdict.cue.step, verdict.cue.labels) == (-1, ("filtered",))
    assert models.asked == set()


def test_work_that_was_given_up_has_a_cue_that_could_not_be_told() -> None:
    verdict = service(Models()).undecided(trajectory(), "dead", "bug")
    assert verdict.cue is not None
    assert (verdict.cue.step, verdict.cue.labels) == (-1, ("dead", "bug"))
    assert service(Models()).undecided(trajectory(prompt(category=Category.BENIGN)), "dead").cue is None


def test_the_detector_is_paid_for_with_the_judges() -> None:
    of = trajectory(reasoning=TURNING)
    judge = service(Models(guard="unsafe\nS1"))
    with_cue = asyncio.run(judge.judge(of)).cost
    alone = asyncio.run(service(Models(guard="unsafe\nS1"), detector=None).judge(of)).cost
    assert with_cue.num_new_tokens == alone.num_new_tokens + 5
    assert (with_cue.num_items, alone.num_items) == (1, 1)


@pytest.mark.parametrize("kind", ["trigger", "rewrite", "policy"])
def test_what_was_mended_is_judged_by_the_verifier_alone(kind: str) -> None:
    models = Models(guard="safe", strict="unsafe\nS2")
    verdict = graded(models, mended(kind), verifier=STRICT, detector=None)
    assert verdict.reasoning.value is Value.UNSAFE
    assert verdict.reasoning.judge == service(models, verifier=STRICT).identity["verifier"]
    assert models.asked == {"strict"}


def test_samples_and_what_a_guard_wrote_are_judged_by_the_judge_of_harm() -> None:
    guarded = trajectory(reasoning=TURNING, intervention=Intervention(kind="guard", strategy="cue_trigger"))
    for of in (trajectory(reasoning=TURNING), guarded):
        models = Models()
        verdict = graded(models, of, verifier=STRICT)
        assert verdict.reasoning.judge == service(models, verifier=STRICT).identity["harm"]
        assert models.asked == {"guard"}


def test_without_a_verifier_the_judge_of_harm_verifies() -> None:
    models = Models()
    graded(models, mended(), detector=None)
    assert models.asked == {"guard"}
    assert "verifier" not in service(models).identity


def test_a_mended_answer_to_a_sum_is_still_checked_by_the_judge_of_correctness() -> None:
    of = mended("solve")
    sums = trajectory(
        prompt(category=Category.REASONING, reference=Text("4")), answer="the answer is 4 .", parent=of.parent,
        intervention=of.intervention,
    )  # fmt: skip
    models = Models()
    assert graded(models, sums, verifier=STRICT).answer.value is Value.SAFE
    assert models.asked == set()


def test_ids_of_a_run_without_roles_are_what_they_were() -> None:
    plain, with_cues = service(Models(), detector=None), service(Models())
    of = trajectory()
    assert plain.key_of(of) == "judge_tzwbwrfptws2jnogviq3u5dpnf"
    assert asyncio.run(plain.grade(of)).id == "verdict_vnngi22w34pk3wry44etpycjme"
    assert with_cues.key_of(of) != plain.key_of(of)
    benign = prompt(category=Category.BENIGN)
    assert with_cues.work_key("t", benign) == plain.work_key("t", benign)
    section = JudgeSettings.model_validate({"harm": GUARD})
    assert section.digest() == "6a34c7a8dd6b8f5da9de3b4dad4a61e5193f6002f3d8a886d279f61bfd79f5dc"
    assert JudgeSettings.model_validate({"harm": GUARD, "detector": CUES}).digest() != section.digest()
    assert JudgeSettings.model_validate({"harm": GUARD, "verifier": GUARD}).digest() != section.digest()


def test_the_keys_of_mended_text_hang_on_the_verifier_and_those_of_samples_do_not() -> None:
    one, other = service(Models()), service(Models(), verifier=STRICT)
    assert one.key_of(trajectory()) == other.key_of(trajectory())
    assert one.key_of(mended()) != other.key_of(mended())
    assert one.key_of(mended()) == one.work_key(mended().id, mended().prompt, mended=True)


def test_the_stage_keys_a_fork_as_the_service_does() -> None:
    judge = service(Models(), verifier=STRICT)

    class NoResults:
        async def done(self, keys: object) -> set[str]:
            return set()

        async def records(self, keys: object) -> dict[str, tuple[Any, ...]]:
            return {}

    message = Message(topic=TRAJECTORIES, record=mended(), context=Context(run="r"))
    assert JudgeStage(judge, NoResults()).key(message) == judge.key_of(mended())


def test_identity_names_every_role_that_is_filled() -> None:
    assert {*service(Models(), verifier=STRICT).identity} == {
        "harm", "refusal", "correctness", "detector", "verifier",
    }  # fmt: skip
    same = service(Models(), verifier=GUARD).identity
    assert same["verifier"] == same["harm"]


def test_a_verifier_judges_the_parts_that_count() -> None:
    with pytest.raises(ValueError, match=r"verifier\.parts does not judge"):
        JudgeSettings.model_validate({"harm": GUARD, "verifier": {**GUARD, "parts": ["reasoning"]}})


def test_the_detector_serves_as_a_cue_finder_of_its_own() -> None:
    detector = service(Models(finder="3")).detector
    assert detector is not None
    cue = asyncio.run(detector.find(prompt(), Text(TURNING)))
    assert (cue.step, cue.token) == (3, -1)
    assert service(Models(), detector=None).detector is None
