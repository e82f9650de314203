"""GRPO through the whole job: the reward rises, prompts are the served ones, and a killed training goes on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tests.contract import tiny_models
from tests.unit.trainer.test_trainer_training import Stopped, elsewhere, stop_at
from tests.unit.trainer.trainer_builders import example_of, job_of, prompt_of

from tracemend.kit.errors import SetupError
from tracemend.records import Category
from tracemend.trainer import job as training_job
from tracemend.trainer.algorithm import make_algorithm
from tracemend.trainer.reward import offer
from tracemend.trainer.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = {"group": 4, "max_new_tokens": 12, "temperature": 1.0}
WANTED = 40
"""The reward is the share of tokens with a smaller id: anything that a model can learn in a few steps."""


@dataclasses.dataclass
class SmallIds:
    """A reward that remembers what it was asked about."""

    identity: str = "small-ids"
    wrong: float | None = None

    def __post_init__(self):
        self.seen = []

    def __call__(self, responses):
        self.seen.extend(responses)
        if self.wrong is not None:
            return [self.wrong] * len(responses)
        return [sum(token < WANTED for token in each.token_ids) / len(each.token_ids) for each in responses]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_models.build(tmp_path_factory.mktemp("models") / "llama")


def grpo_job(folder: Path, *, base: Path, num_prompts: int = 6, reward: str = "small-ids", **settings):
    # Two rows of one prompt, and a benign one, which are no prompts of their own for it.
    examples = [example_of(number) for number in range(num_prompts)]
    examples += [example_of(100, prompt=prompt_of(0)), example_of(101, prompt=prompt_of(50, Category.BENIGN))]
    usual = {"algorithm": "grpo", "options": OPTIONS, "batch_size": 8, "epochs": 1, "learning_rate": 3e-3}
    job = job_of(folder, base=base, examples=examples, **{**usual, **settings})
    return dataclasses.replace(job, reward=reward)


def run(job, progress=None):
    launched = training_job.job_of(job, name="grpo")
    arguments = json.loads(json.dumps(launched.arguments))
    return training_job.run(arguments, folder=Path(launched.folder), progress=progress)


@pytest.mark.slow
def test_the_reward_rises_and_every_prompt_is_sampled_in_groups(base, tmp_path):
    reward = SmallIds()
    with offer(reward):
        options = {**OPTIONS, "group": 8}
        settings = {"options": options, "batch_size": 16, "learning_rate": 3e-2, "warmup_share": 0.0}
        checkpoint = run(grpo_job(tmp_path, base=base, epochs=3, **settings))
    assert checkpoint.step == 9
    assert checkpoint.metrics["last/reward"] > checkpoint.metrics["first/reward"] + 0.4
    first_epoch = [each.prompt.id for each in reward.seen[: 6 * 8]]
    assert {first_epoch.count(name) for name in set(first_epoch)} == {8}
    assert set(first_epoch) == {prompt_of(number).id for number in range(6)}
    assert all(len(each.token_ids) <= 12 for each in reward.seen)


@pytest.mark.slow
def test_an_interrupted_training_ends_in_the_same_weights(base, tmp_path):
    job = grpo_job(tmp_path, base=base, save_steps=2, epochs=2)
    again = elsewhere(job, "again")
    with offer(SmallIds()):
        expected = run(job)
        for step in (1, 3, 5):
            with pytest.raises(Stopped):
                run(again, stop_at(step))
        assert run(again).model == expected.model


@pytest.mark.slow
def test_a_last_step_that_is_not_full_is_filled_up_and_not_left_out(base, tmp_path):
    reward = SmallIds()
    with offer(reward):
        assert run(grpo_job(tmp_path, base=base, num_prompts=5)).step == 3
    assert {each.prompt.id for each in reward.seen} == {prompt_of(number).id for number in range(5)}


@pytest.mark.slow
def test_without_an_offered_reward_it_says_where_to_run(base, tmp_path):
    with pytest.raises(SetupError, match="launcher: inline"):
        run(grpo_job(tmp_path, base=base))


@pytest.mark.slow
def test_a_reward_that_is_no_number_stops_the_training(base, tmp_path):
    with offer(SmallIds(wrong=float("nan"))), pytest.raises(SetupError, match="one finite number per response"):
        run(grpo_job(tmp_path, base=base))


@pytest.mark.slow
def test_responses_beyond_the_context_are_refused(base, tmp_path):
    with offer(SmallIds()), pytest.raises(SetupError, match="do not fit into the model's context of 256"):
        run(grpo_job(tmp_path, base=base, options={**OPTIONS, "max_new_tokens": 250}))


def test_a_step_holds_whole_groups():
    settings = TrainSettings(algorithm="grpo", options=OPTIONS, batch_size=6)
    with pytest.raises(SetupError, match=r"6 responses holds no whole groups of 4.*multiple of options\.group"):
        make_algorithm(settings).rows_per_step(settings)


def test_another_reward_is_another_training(base, tmp_path):
    from tracemend.trainer.training import _fingerprint

    job = grpo_job(tmp_path, base=base)
    algorithm = make_algorithm(job.settings)
    names = ("small-ids", "other", "")
    assert len({_fingerprint(dataclasses.replace(job, reward=n), algorithm, template="t") for n in names}) == 3
