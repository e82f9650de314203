"""What preference training is expected to take: rows of each kind of pair, looks for cues, both sides of a pair."""

from __future__ import annotations

import pytest

from tracemend.embedded.assumptions import Assumptions, assumptions_of
from tracemend.embedded.estimating import Estimate, estimate
from tracemend.embedded.runfile import parse_run_file
from tracemend.kit.errors import SetupError

TEXT = """\
name: small
models:
  judge: {engine: "openai:judge@http://h/v1"}
  verifier: {engine: "openai:verifier@http://h/v1"}
  finder: {engine: "openai:finder@http://h/v1"}
prompts:
  - {source: numbered, count: 100}
  - {source: numbered, count: 50, category: benign, start: 100}
target: {model: /models/m, engine: vllm, samples: 6}
judge:
  harm: {name: rubric, model: judge}
  verifier: {name: llama_guard, model: verifier}
  detector: {name: llm_cue, model: finder}
arms:
  guard: {guard: {triggers: safety}}
  first:
    correct: &intervene {strategy: intervene, options: {triggers: safety}}
    assemble: {kind: pairs}
    train: &pairs {algorithm: intervened_po, epochs: 2}
  second:
    from: first
    correct: {strategy: refused}
    assemble: {kind: pairs, pairs_from: first, benign_share: 0.75}
    train: *pairs
  supervised:
    correct: *intervene
    assemble: {rows_of: first}
    train: {algorithm: sft, epochs: 2}
  natural:
    correct: {strategy: contrast}
    assemble: {kind: pairs}
    train: *pairs
evaluate:
  samples: 3
  benchmarks: {harmful: {prompts: {source: numbered, count: 10, start: 500}}}
"""
ASSUMED = Assumptions(unsafe_share=0.6, hard_share=0.2, fork_share=0.4, refused_share=0.3, price_per_million=1.0)


@pytest.fixture(scope="module")
def found() -> Estimate:
    return estimate(parse_run_file(TEXT, name="run.yaml"), ASSUMED)


def calls(found: Estimate) -> dict[str, int]:
    return {item.what: item.num_calls for item in found.items}


def test_a_first_stage_expects_a_pair_of_every_mended_fork_and_a_follower_the_same_rows(found: Estimate) -> None:
    assert found.rows["first"] == found.rows["supervised"] == round(100 * 6 * 0.6 * 0.4)


def test_a_second_stage_expects_each_benign_prompt_that_a_sample_refuses_and_harmful_pairs_beside_them(
    found: Estimate,
) -> None:
    num_refused = round(50 * (1 - 0.7**6))  # any of the six samples
    assert num_refused == 44
    assert found.rows["second"] == num_refused + round(44 / 3), "3 benign to 1 harmful"


def test_a_second_stage_with_one_sample_per_prompt_expects_the_refused_share_itself() -> None:
    once = estimate(parse_run_file(TEXT.replace("samples: 6", "samples: 1"), name="run.yaml"), ASSUMED)
    assert once.rows["second"] == 15 + 5


def test_natural_pairs_are_expected_of_prompts_with_both_kinds_of_sample_alone(found: Estimate) -> None:
    easy = (0.6 - 0.2) / 0.8  # what is unsafe beyond the hard prompts, spread over the others
    assert found.rows["natural"] == round(100 * 0.8 * (1 - easy**6 - (1 - easy) ** 6))


def test_a_detector_looks_at_unsafe_samples_and_at_every_fork(found: Estimate) -> None:
    assert calls(found)["find cues"] == 360 + calls(found)["fork"] == 360 + 360


def test_a_guard_looks_at_each_response_at_least_once(found: Estimate) -> None:
    assert calls(found)["guard, at least"] == 10 * 3


def test_nobody_looks_where_there_is_no_detector_and_a_guard_that_is_off_does_not() -> None:
    lines = [line for line in TEXT.splitlines() if "detector" not in line]
    without = "\n".join(lines).replace("{triggers: safety}}\n  first", "{mode: 'off'}}\n  first")
    steps = calls(estimate(parse_run_file(without, name="run.yaml"), ASSUMED))
    assert not {"find cues", "guard, at least"} & steps.keys()


def test_training_on_pairs_reads_both_sides(found: Estimate) -> None:
    tokens = {item.what: item.num_tokens for item in found.items}
    assert tokens["train first"] == 2 * tokens["train supervised"]


def test_forks_are_judged_by_the_verifier(found: Estimate) -> None:
    """One that runs here costs nothing; the judge of harm stays with its endpoint."""
    local = TEXT.replace("openai:verifier@http://h/v1", "vllm:/models/verifier")
    money = {item.what: item.money for item in estimate(parse_run_file(local, name="run.yaml"), ASSUMED).items}
    assert money["judge forks"] == 0 < money["judge samples"]
    assert {item.what: item.money for item in found.items}["judge forks"] > 0


def test_a_judge_is_asked_about_the_parts_that_it_has() -> None:
    two = TEXT.replace("rubric, model: judge", "rubric, model: judge, parts: [reasoning, answer]")
    three, fewer = (calls(estimate(parse_run_file(text, name="run.yaml"), ASSUMED)) for text in (TEXT, two))
    assert (three["judge samples"], fewer["judge samples"]) == (3 * three["sample"], 2 * three["sample"])


def test_what_cannot_be_counted_yields_no_rows() -> None:
    """The benign prompts are a file that is not there: the second stage may expect nothing, the first what it did."""
    lost = TEXT.replace(
        "{source: numbered, count: 50, category: benign, start: 100}", "{source: jsonl, path: no.jsonl}"
    )
    less = estimate(parse_run_file(lost, name="run.yaml"), ASSUMED)
    assert list(less.uncounted) == ["prompts.1 (jsonl)"]
    assert (less.rows["first"], less.rows["second"]) == (144, 0)


SWEPT = TEXT.replace(
    "algorithm: intervened_po, epochs: 2",
    "algorithm: intervened_po, epochs: 2, "
    "sweep: {learning_rate: [1.0e-5, 2.0e-5], at_most_over_base: {over_refusal: 0.1}}",
).replace(
    "  benchmarks: {harmful",
    "  sampling: {max_new_tokens: 50}\n  validation: {held: {prompts: {source: numbered, count: 7, start: 600}}}\n"
    "  benchmarks: {harmful",
)


def test_every_candidate_of_a_sweep_is_sampled_and_judged_on_the_validation_prompts() -> None:
    found = calls(estimate(parse_run_file(SWEPT, name="run.yaml"), ASSUMED))
    num_models = 3 * 2 + 1  # two rates for each arm that trains on pairs, and the base that they are held against
    assert found["validate sweeps"] == 7 * 3 * num_models
    assert found["judge sweeps"] == 3 * found["validate sweeps"]


def test_the_detector_looks_at_unsafe_samples_of_benchmarks_as_well() -> None:
    found = calls(estimate(parse_run_file(SWEPT, name="run.yaml"), ASSUMED))
    num_harmful = 10 * 3 * (1 + 1 + 4) + 7 * 3 * 7
    assert found["find cues measuring, at most"] == round(num_harmful * 0.6)


def test_measuring_samples_have_their_own_greatest_length() -> None:
    items = estimate(parse_run_file(SWEPT, name="run.yaml"), ASSUMED).items
    (evaluated,) = (item for item in items if item.what == "evaluate")
    assert evaluated.num_tokens == evaluated.num_calls * (120 + 50)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"unsafe_share": "nan"}, "unsafe_share=nan: it is a share, from 0 to 1"),
        ({"refused_share": "2"}, "a share"),
        ({"tokens_per_s": "0"}, "tokens_per_s=0: it is a rate, above 0"),
        ({"trained_tokens_per_s": "inf"}, "a rate"),
        ({"prompt_tokens": "-5"}, "a number from 0 on"),
        ({"prompt_token": "5"}, "did you mean 'prompt_tokens'"),
        ({"prompt_tokens": "many"}, "wants NAME=NUMBER"),
    ],
)
def test_an_assumption_that_cannot_be_says_so(given: dict[str, str], says: str) -> None:
    with pytest.raises(SetupError, match=says):
        assumptions_of(given)


def test_a_source_that_is_counted_in_part_is_named() -> None:
    found = estimate(parse_run_file(TEXT.replace("count: 100", "count: 200_001"), name="run.yaml"), ASSUMED)
    assert "prompts.0 (numbered): its first 200,000 rows are counted, and it may have more" in found.notes
