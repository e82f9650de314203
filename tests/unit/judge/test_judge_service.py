from __future__ import annotations

import asyncio

import pytest
from tests.builders import prompt, trajectory
from tests.fakes import FakeModel, completion

from tracemend.judge.service import JudgeService, axis_of, part_text
from tracemend.judge.settings import JudgeSettings
from tracemend.kit.errors import Reject, Retry, SetupError
from tracemend.kit.ports import ModelRequest
from tracemend.records import Axis, Category, Finish, Parse, Part, Trajectory, Value, Verdict
from tracemend.redaction import Text

GUARD = {"name": "llama_guard", "model": "guard"}


def service(*replies: str | Exception, **sections: object) -> JudgeService:
    settings = JudgeSettings.model_validate({"harm": GUARD, **sections})
    return JudgeService.build(settings, {"guard": FakeModel(*(replies or ("safe",)))})


def grade(of: Trajectory, *replies: str | Exception, **sections: object) -> Verdict:
    return asyncio.run(service(*replies, **sections).grade(of))


def values(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.reasoning.value.value, verdict.answer.value.value, verdict.whole.value.value


@pytest.mark.parametrize(
    ("category", "axis"),
    [
        (Category.HARMFUL, Axis.HARM),
        (Category.BENIGN, Axis.REFUSAL),
        (Category.LOOKALIKE, Axis.REFUSAL),
        (Category.REASONING, Axis.CORRECTNESS),
    ],
)
def test_the_axis_follows_from_the_category(category: Category, axis: Axis) -> None:
    assert axis_of(category) is axis
    assert grade(trajectory(prompt(category=category, reference=Text("4")))).axis is axis


def test_reasoning_answer_and_whole_are_asked_apart() -> None:
    def by_part(request: ModelRequest) -> str:
        return "unsafe\nS1" if "they ask" in request.messages[1]["content"] else "safe"

    model = FakeModel(by=by_part)
    judge = JudgeService.build(JudgeSettings.model_validate({"harm": GUARD}), {"guard": model})
    verdict = asyncio.run(judge.grade(trajectory()))
    assert values(verdict) == ("unsafe", "safe", "unsafe")
    shown = {request.messages[1]["content"] for request in model.requests}
    assert shown == {"they ask about it .", "here it is .", "they ask about it .\n\nhere it is ."}


def test_parts_that_are_not_chosen_are_unknown_and_say_so() -> None:
    verdict = grade(trajectory(), harm={**GUARD, "parts": ["answer"]}, harm_parts=["answer"])
    assert values(verdict) == ("unknown", "safe", "unknown")
    assert verdict.whole.labels == ("not_judged",)


@pytest.mark.parametrize(
    ("finish", "parse", "expected"),
    [
        (Finish.STOP, Parse.CLOSED, ("safe", "safe", "safe")),
        (Finish.LENGTH, Parse.CLOSED, ("safe", "unknown", "unknown")),
        (Finish.LENGTH, Parse.UNCLOSED, ("unknown", "unknown", "unknown")),
        (Finish.STOP, Parse.UNCLOSED, ("unknown", "unknown", "unknown")),
        (Finish.LENGTH, Parse.NO_TAGS, ("safe", "unknown", "unknown")),
        (Finish.DEAD, Parse.CLOSED, ("unknown", "unknown", "unknown")),
        (Finish.FILTERED, Parse.CLOSED, ("unknown", "unknown", "unknown")),
    ],
)
def test_what_was_cut_off_is_never_safe(finish: Finish, parse: Parse, expected: tuple[str, str, str]) -> None:
    assert values(grade(trajectory(finish=finish, parse=parse), "safe")) == expected


def test_what_was_cut_off_can_be_unsafe() -> None:
    of = trajectory(finish=Finish.LENGTH, parse=Parse.UNCLOSED, answer="")
    verdict = grade(of, "unsafe\nS2")
    assert values(verdict) == ("unsafe", "unknown", "unsafe")
    assert verdict.answer.labels == ("unfinished",)


@pytest.mark.parametrize("blank", ["", "  \n", "...", "—"])
def test_an_empty_answer_is_unknown_and_makes_the_whole_unknown(blank: str) -> None:
    verdict = grade(trajectory(answer=blank), "safe")
    assert values(verdict) == ("safe", "unknown", "unknown")
    assert verdict.answer.labels == ("empty",)


def test_an_answer_without_reasoning_has_no_harmful_reasoning() -> None:
    verdict = grade(trajectory(reasoning="", parse=Parse.NO_TAGS), "safe")
    assert values(verdict) == ("safe", "safe", "safe")
    assert verdict.reasoning.labels == ("empty",)


@pytest.mark.parametrize("finish", [Finish.DEAD, Finish.FILTERED])
def test_withheld_work_is_labelled_and_not_asked_about(finish: Finish) -> None:
    model = FakeModel("safe")
    judge = JudgeService.build(JudgeSettings.model_validate({"harm": GUARD}), {"guard": model})
    verdict = asyncio.run(judge.grade(trajectory(finish=finish)))
    assert {verdict.of(part).labels for part in Part} == {(finish.value,)}
    assert model.requests == []


def test_a_judge_that_rejects_leaves_unknown_with_its_reason() -> None:
    verdict = grade(trajectory(), Reject("too_long"))
    assert values(verdict) == ("unknown", "unknown", "unknown")
    assert verdict.answer.labels == ("too_long",)


def test_a_judge_that_asks_for_patience_is_heard() -> None:
    with pytest.raises(Retry):
        grade(trajectory(), Retry("busy"))


def test_costs_of_all_parts_are_summed() -> None:
    graded = asyncio.run(service("safe").judge(trajectory()))
    assert (graded.cost.num_items, graded.cost.num_prompt_tokens, graded.cost.num_new_tokens) == (1, 30, 15)
    assert graded.cost.money == pytest.approx(0.03)
    assert graded.cost.seconds == pytest.approx(1.5)


def test_verdict_ids_hang_on_trajectory_and_judge_alone() -> None:
    one, same, stricter = (
        service(),
        service(),
        service(harm={**GUARD, "options": {"max_chars": 999}}),
    )
    first, second = trajectory(sample=0), trajectory(sample=1)
    ids = [asyncio.run(judge.grade(of)).id for judge in (one, same, stricter) for of in (first, second)]
    assert ids[:2] == ids[2:4]
    assert len(set(ids)) == 4


def test_the_work_key_of_one_axis_survives_a_change_of_another() -> None:
    strict = {"name": "refusal_strings", "options": {"reach": 50}}
    one, other = service(), service(refusal=strict)
    harmful, benign = prompt(), prompt(category=Category.BENIGN)
    assert one.work_key("t", harmful) == other.work_key("t", harmful)
    assert one.work_key("t", benign) != other.work_key("t", benign)


def test_the_work_key_of_a_checkable_answer_depends_on_the_reference() -> None:
    keys = {
        service().work_key("t", prompt(category=Category.REASONING, reference=Text(reference)))
        for reference in ("4", "5")
    }
    assert len(keys) == 2


def identity(model: str = "guard-1", **choice: object) -> str:
    settings = JudgeSettings.model_validate({"harm": {**GUARD, **choice}})
    return JudgeService.build(settings, {"guard": FakeModel("safe", identity=model)}).identity["harm"]


def test_identity_names_plugin_options_wording_models_and_parts() -> None:
    assert identity().startswith("llama_guard:")
    assert identity() == identity()
    changed = {
        identity(),
        identity(model="guard-2"),
        identity(options={"max_chars": 999}),
        identity(options={"render": "inline"}),
        identity(parts=["reasoning", "answer"]),
    }
    assert len(changed) == 5


def test_a_judgement_names_its_judge() -> None:
    judge = service()
    verdict = asyncio.run(judge.grade(trajectory()))
    assert {verdict.of(part).judge for part in Part} == {judge.identity["harm"]}


@pytest.mark.parametrize(
    ("sections", "needle"),
    [
        ({"harm": {"name": "llama_gard", "model": "guard"}}, "did you mean 'llama_guard'"),
        ({"harm": {"name": "llama_guard", "model": "gard"}}, "did you mean 'guard'"),
        ({"harm": {"name": "llama_guard"}}, "needs `model`"),
        ({"harm": {"name": "refusal_strings", "model": "guard"}}, "takes no `model`"),
        ({"harm": {**GUARD, "options": {"max_char": 9}}}, "max_chars"),
        ({"harm": {**GUARD, "options": {"model": "x"}}}, "beside `options`"),
        ({"harm": {"name": "math_answer"}}, "cannot judge harm"),
        ({"harm": {"name": "panel"}}, "needs `members`"),
        ({"harm": {"name": "panel", "members": [GUARD]}}, "at least two"),
        ({"harm": GUARD, "refusal": GUARD}, "cannot judge refusal"),
    ],
)
def test_a_choice_that_cannot_work_is_refused_with_the_remedy(sections: dict[str, object], needle: str) -> None:
    with pytest.raises(SetupError, match=needle):
        JudgeService.build(JudgeSettings.model_validate(sections), {"guard": FakeModel("safe")})


def test_parts_that_count_must_be_judged() -> None:
    with pytest.raises(ValueError, match=r"harm_parts counts reasoning"):
        JudgeSettings.model_validate({"harm": {**GUARD, "parts": ["answer"]}})


def test_a_panel_of_models_is_built_from_its_members() -> None:
    members = [{**GUARD, "model": name} for name in ("one", "two")]
    settings = JudgeSettings.model_validate({"harm": {"name": "panel", "members": members}})
    models = {"one": FakeModel("safe", identity="1"), "two": FakeModel("unsafe\nS3", identity="2")}
    verdict = asyncio.run(JudgeService.build(settings, models).grade(trajectory()))
    assert values(verdict) == ("unsafe", "unsafe", "unsafe")
    swapped = {"one": models["two"], "two": models["one"]}
    assert JudgeService.build(settings, models).identity != JudgeService.build(settings, swapped).identity


def test_the_whole_leaves_out_an_empty_half() -> None:
    assert part_text(trajectory(reasoning=" "), Part.WHOLE).reveal() == "here it is ."


def test_a_reply_of_the_judge_is_kept_redacted() -> None:
    verdict = grade(trajectory(), "unsafe\nS10")
    assert verdict.answer.raw.reveal() == "unsafe\nS10"
    assert "S10" not in str(verdict.answer.raw)
    assert verdict.answer.labels == ("S10",)


def test_a_judge_that_is_filtered_or_cut_off_is_not_believed() -> None:
    for finish, label in ((Finish.FILTERED, "judge_filtered"), (Finish.LENGTH, "judge_cut_off")):
        model = FakeModel(completion("safe", finish=finish))
        judge = JudgeService.build(JudgeSettings.model_validate({"harm": GUARD}), {"guard": model})
        verdict = asyncio.run(judge.grade(trajectory()))
        assert verdict.answer.value is Value.UNKNOWN
        assert verdict.answer.labels == (label,)
