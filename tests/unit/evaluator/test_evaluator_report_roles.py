"""The report says in plain words where one judge or one model fills two roles."""

from __future__ import annotations

from typing import Any

from tests.unit.evaluator.evaluator_facts import facts, measured

from tracemend.evaluator.report.build import build_report

JUDGES = {"harm": "rubric:aa", "refusal": "refusal_strings:bb", "detector": "llm_cue:cc", "verifier": "rubric:dd"}
MODELS = {
    "one": {"engine": "openai:guard-9b@http://here/v1"},
    "same": {"engine": "openai:guard-9b@http://there/v1"},
    "other": {"engine": "openai:large@http://here/v1"},
    "third": {"engine": "transformers:/models/third"},
}
ARMS = {"base": measured("base", num_prompts=4)}


def warned(judges: dict[str, str], **roles: Any) -> list[tuple[str, str]]:
    plan = {"judge": roles, "models": MODELS}
    report = build_report(facts(ARMS, judges=judges, plan=plan, manifests={}, checkpoints={}, examples=[]))
    return [(w["code"], w["text"]) for w in report["trust"]["warnings"] if w["code"] in ("same_verifier", "same_model")]


def test_three_roles_with_three_models_are_not_flagged() -> None:
    harm, verifier, detector = ({"model": name} for name in ("one", "third", "other"))
    assert warned(JUDGES, harm=harm, verifier=verifier, detector=detector) == []


def test_a_run_without_roles_is_not_flagged() -> None:
    plain = {"harm": "rubric:aa", "refusal": "refusal_strings:bb"}
    assert warned(plain, harm={"model": "one"}, verifier=None, detector=None) == []


def test_a_verifier_that_is_the_judge_of_harm_is_flagged_once() -> None:
    same = {**JUDGES, "verifier": JUDGES["harm"]}
    ((code, text),) = warned(same, harm={"model": "one"}, verifier={"model": "one"}, detector={"model": "other"})
    assert code == "same_verifier"
    assert "rubric:aa" in text


def test_a_detector_without_a_verifier_is_flagged_too() -> None:
    left_out = {role: identity for role, identity in JUDGES.items() if role != "verifier"}
    ((code, _),) = warned(left_out, harm={"model": "one"}, verifier=None, detector={"model": "other"})
    assert code == "same_verifier"


def test_one_model_in_two_roles_is_flagged_wherever_it_is_served_and_however_deep_it_is_asked() -> None:
    panel = {"members": [{"models": ["third", "same"]}, {"name": "refusal_strings"}]}
    found = warned(JUDGES, harm={"model": "one"}, verifier=panel, detector={"model": "third"})
    assert [code for code, _ in found] == ["same_model", "same_model"]
    assert "judge of harm and the verifier ask the same model (openai:guard-9b)" in found[0][1]
    assert "verifier and the detector ask the same model (transformers:/models/third)" in found[1][1]


def test_the_roles_stand_beside_the_judges_in_the_report() -> None:
    report = build_report(facts(ARMS, judges=JUDGES, manifests={}, checkpoints={}, examples=[]))
    assert report["trust"]["judges"]["detector"]["identity"] == "llm_cue:cc"
    assert report["digests"]["judges"]["verifier"] == "rubric:dd"
