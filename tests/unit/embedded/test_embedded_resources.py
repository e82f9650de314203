"""A preset fills in what the run file leaves unsaid, keeps the recipe's batch, and is stable once applied."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tracemend.embedded import resources
from tracemend.embedded.plan import from_content, resolve
from tracemend.embedded.resources import MACHINES, PROMPT_ROOM_TOKENS
from tracemend.embedded.runfile import RunFile
from tracemend.kit.errors import SetupError
from tracemend.trainer.settings import TrainSettings


def run_of(preset: str, *, train: dict[str, Any] | None = None, **target: Any) -> RunFile:
    arm = {"correct": {"strategy": "filter"}, "train": train or {}}
    document = {
        "name": "small",
        "prompts": [{"source": "numbered", "count": 2}],
        "target": {"model": "/models/m", "engine": "vllm", **target},
        "judge": {"harm": {"name": "last_word"}},
        "arms": {"arm": arm},
        "resources": {"preset": preset},
    }
    return RunFile.model_validate(document)


def trained(preset: str, **train: Any) -> TrainSettings:
    settings = resolve(run_of(preset, train=train)).run.arms["arm"].train
    assert settings is not None
    return settings


def test_auto_changes_nothing() -> None:
    run = run_of("auto")
    assert resolve(run).run == run


@pytest.mark.parametrize("preset", MACHINES)
def test_a_preset_is_applied_once_and_the_stored_plan_says_what_was_used(preset: str) -> None:
    plan = resolve(run_of(preset))
    assert plan.run != run_of(preset)
    assert from_content(plan.content) == plan


@pytest.mark.parametrize("preset", MACHINES)
def test_what_the_file_says_stands(preset: str) -> None:
    """Also where it says what the default would be: full fine-tuning, no checkpointing, one process."""
    said = {"lora": None, "precision": "fp32", "gradient_checkpointing": False, "num_processes": 1, "batch_size": 3}
    train = trained(preset, **said)
    assert {name: getattr(train, name) for name in said} == said
    options = {"memory_share": 0.5, "max_model_len": 777}
    run = resolve(run_of(preset, engine_options=options)).run
    assert run.target.engine_options.items() >= options.items()


def test_one_gpu_trains_adapters_and_eight_train_whole_models() -> None:
    for preset in ("1x24gb", "1x80gb"):
        train = trained(preset)
        assert train.lora is not None
        assert (train.precision, train.gradient_checkpointing, train.deepspeed) == ("bf16", True, "none")
        assert (train.launcher, train.num_processes) == ("inline", 1)
    train = trained("8xh100")
    assert train.lora is None
    assert (train.deepspeed, train.launcher, train.num_processes) == ("zero3", "subprocess", 8)


def test_adapters_on_eight_gpus_need_no_partitioned_weights() -> None:
    train = trained("8xh100", lora={"r": 16})
    assert (train.deepspeed, train.num_processes) == ("none", 8)


@pytest.mark.parametrize(("batch", "accumulation"), [(1, 8), (8, 1), (16, 4), (1, 1), (3, 4), (5, 1), (12, 2)])
def test_an_optimiser_step_sees_the_same_rows_on_every_machine(batch: int, accumulation: int) -> None:
    for preset in MACHINES:
        train = trained(preset, batch_size=batch, gradient_accumulation=accumulation)
        rows = train.batch_size * train.gradient_accumulation * train.num_processes
        assert rows == batch * accumulation
        assert train.batch_size <= batch


def test_the_engine_gets_room_for_a_prompt_and_the_longest_response() -> None:
    run = run_of("1x24gb", sampling={"max_new_tokens": 1000})
    document = run.model_dump(by_alias=True)
    document["evaluate"] = {
        "sampling": {"max_new_tokens": 3000},
        "benchmarks": {"b": {"prompts": {"source": "numbered", "count": 1}}},
    }
    for longest, asked in ((1000, run), (3000, RunFile.model_validate(document))):
        assert resolve(asked).run.target.engine_options["max_model_len"] == longest + PROMPT_ROOM_TOKENS


@pytest.mark.parametrize(
    "target", [{"engine": "openai:m@http://h/v1"}, {"engine": "transformers", "model": "proving:base"}]
)
def test_endpoints_and_the_proving_ground_are_left_alone(target: dict[str, str]) -> None:
    assert resolve(run_of("8xh100", **target)).run.target.engine_options == {}


def test_every_option_is_one_that_its_engine_takes() -> None:
    import inspect

    from tracemend.adapters.transformers_engine import TransformersEngine
    from tracemend.adapters.vllm_engine import VllmEngine

    engines = {"vllm": VllmEngine, "transformers": TransformersEngine}
    for machine in MACHINES.values():
        for name, options in machine.engine_options.items():
            assert set(options) | {"max_model_len"} <= set(inspect.signature(engines[name]).parameters)


def test_the_documented_table_is_what_the_presets_are() -> None:
    """The row of vLLM in the module's table, read back."""
    assert resources.__doc__ is not None
    rows = [[cell.strip() for cell in line.split("|")] for line in resources.__doc__.splitlines() if line[:1] == "|"]
    columns, serving = rows[0], next(row for row in rows if row[1].startswith("vLLM"))
    for preset, machine in MACHINES.items():
        stated = [float(number) for number in re.findall(r"[\d.]+", serving[columns.index(f"`{preset}`")])]
        options = machine.engine_options["vllm"]
        assert stated == [options["memory_share"], options["max_batch"], options["tensor_parallel"]]


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    from tracemend.embedded.runfile import parse_run_file

    text = "name: x\nprompts: [{source: numbered, count: 1}]\ntarget: {model: m}\njudge: {harm: {name: last_word}}\n"
    with pytest.raises(SetupError, match="1x80gb"):
        parse_run_file(f"{text}resources: {{preset: 2x80gb}}\n", name="run.yaml")
