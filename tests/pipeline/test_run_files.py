"""Every run file that we ship is sound: it validates, plans, finds its judges, and fits the model that it is for.

No weights are needed: a real model is stood in for by a tiny one of its architecture with a chat template like R1's,
and by its published shape.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract import tiny_models
from tests.needs import needs_data
from tests.unit.trainer.trainer_builders import example_of

from tracemend.embedded.architectures import PUBLISHED, find_architecture
from tracemend.embedded.checking import check_corrections, check_run
from tracemend.embedded.environment import names_in
from tracemend.embedded.models import Target, find_target, open_helpers
from tracemend.embedded.plan import Plan, from_content, resolve
from tracemend.embedded.progress import Silent
from tracemend.embedded.resources import MACHINES
from tracemend.embedded.runfile import RunFile, load_run_file
from tracemend.judge.service import JudgeService
from tracemend.kit.errors import SetupError
from tracemend.records import Parse
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate
from tracemend.trainer.fidelity import ModelLimits, objections, require_fidelity
from tracemend.trainer.rendering import render_rows
from tracemend.trainer.settings import TrainSettings

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SHIPPED = [*EXAMPLES, ROOT / "services" / "tracemend" / "embedded" / "demo.yaml"]
R1 = [path for path in EXAMPLES if path.stem.startswith("unsafechain-r1-")]
COMPAT = ROOT / "examples" / "unsafechain-compat.yaml"
# Reasoning is cut from assistant turns, and the prompt opens the block.
R1_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'].split('</think>')[-1] + '<|end|>' }}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"
)
ROWS = [example_of(number) for number in range(6)]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable that a run file names, with nobody behind it: nothing here connects."""
    for path in SHIPPED:
        for name in names_in(path.read_text(encoding="utf-8")):
            monkeypatch.setenv(name, "http://127.0.0.1:9/v1" if name.endswith("_URL") else "model")
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: one tiny stand-in per published model, under its name."""
    folder = tmp_path_factory.mktemp("models")
    for name, architecture in PUBLISHED.items():
        tiny_models.build(folder / name, architecture.model_type, context=16_384)
        tokenizer = tiny_models.build_tokenizer()
        tokenizer.chat_template = R1_TEMPLATE
        tokenizer.save_pretrained(folder / name)
    return folder


def planned(path: Path) -> Plan:
    return resolve(load_run_file(path))


def target_of(run: RunFile, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setenv("TRACEMEND_MODELS", str(models))
    return find_target(run.target, seed=run.seed, cache=tmp_path, observer=Silent())


def training_of(run: RunFile) -> TrainSettings:
    (train,) = [arm.train for arm in run.arms.values()]
    assert train is not None
    return train


def test_the_folder_holds_the_run_files_that_the_tests_speak_of() -> None:
    assert len(R1) == 3
    assert COMPAT in EXAMPLES
    assert {path.stem for path in EXAMPLES} >= {"null-2000", "unsafechain-real"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_run_file_is_valid_and_every_arm_can_be_worked_on(path: Path) -> None:
    plan = planned(path)
    assert plan.parents(), "some arm corrects"
    check_corrections(plan, models=plan.run.models)
    assert from_content(plan.content) == plan, "the stored plan is the plan"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
async def test_a_run_file_finds_its_models_and_judges(path: Path) -> None:
    run = load_run_file(path)
    async with open_helpers(run.models) as helpers:
        roles = {role for role in ("detector", "verifier") if getattr(run.judge, role) is not None}
        judges = JudgeService.build(run.judge, helpers)
        assert set(judges.identity) == {"harm", "refusal", "correctness"} | roles


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_plan_holds_the_names_of_variables_and_never_their_values(path: Path) -> None:
    content = planned(path).content.decode()
    assert "127.0.0.1:9" not in content
    assert set(names_in(path.read_text(encoding="utf-8").partition("name:")[2])) <= set(names_in(content))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_dry_run_finds_nothing_wrong(path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources open, models and templates are there, lengths fit: all that `tracemend run --dry-run` looks at."""
    run = load_run_file(path)
    if any(item.source == "preset" for item in run.prompts):
        needs_data()
    monkeypatch.setenv("TRACEMEND_MODELS", str(models))
    wrong = [f"{check.what}: {check.detail}" for check in check_run(run) if not check.holds]
    assert wrong == []


@pytest.mark.parametrize("path", R1, ids=lambda path: path.stem)
def test_an_r1_run_serves_trains_and_parses_one_format(
    path: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template path, the parser and the gate, on the model's own architecture with a template like R1's."""
    run = planned(path).run
    folder = target_of(run, models, tmp_path, monkeypatch).trainable_folder()
    template = ChatTemplate.load(folder, run.target.reasoning_format)
    assert template.format.name == "r1"
    assert template.decode(template.prompt_tokens(Text("a question"))).reveal().endswith("<think>\n")
    row = ROWS[0]
    parts = template.split(template.response_tokens(row.reasoning, row.answer))
    assert (parts.reasoning, parts.answer, parts.parse) == (row.reasoning, row.answer, Parse.CLOSED)
    train = training_of(run)
    assert gate(train, folder, template) == []


@pytest.mark.parametrize("path", [*R1, COMPAT], ids=lambda path: path.stem)
def test_lengths_and_memory_fit_the_model_and_the_machine(path: Path) -> None:
    """By published shapes: serving fits with a whole sequence beside the weights, training with its adapters."""
    run = planned(path).run
    architecture = find_architecture(run.target.model)
    assert architecture is not None, "the folder has the published model's name"
    machine = MACHINES[run.resources.preset]
    options, train = run.target.engine_options, training_of(run)
    longest = options["max_model_len"]
    assert isinstance(longest, int)
    assert isinstance(train.max_length, int)
    assert train.max_length <= architecture.context
    assert run.target.sampling.max_new_tokens < longest <= architecture.context
    weights = 2 * architecture.num_parameters
    assert weights + longest * architecture.kv_bytes_per_token() < 0.9 * machine.gpu_bytes
    assert train.lora is not None
    adapters = 16 * architecture.num_lora_parameters(rank=train.lora.r, targets=train.lora.targets)
    # The loss holds two fp32 copies of a row's logits; activations are checkpointed at layer borders.
    logits = 2 * 4 * train.max_length * architecture.vocab
    borders = 2 * train.max_length * architecture.hidden * architecture.num_layers
    assert weights + adapters + logits + borders < machine.gpu_bytes


@pytest.mark.parametrize("path", R1, ids=lambda path: path.stem)
def test_r1_runs_train_with_the_settings_of_the_paper_and_without_its_defects(path: Path) -> None:
    """methods.md §2.7 [R?], and our repairs [X]."""
    run = planned(path).run
    train = training_of(run)
    assert train.lora is not None
    assert (train.lora.r, train.lora.alpha, train.lora.dropout) == (16, 32, 0.05)
    assert set(train.lora.targets) == {"q_proj", "v_proj"}
    assert (train.learning_rate, train.epochs, train.scheduler) == (1e-5, 2, "linear")
    assert (train.batch_size, train.gradient_accumulation, train.num_processes) == (1, 8, 1)
    assert (train.render, train.teach_end, train.train_on_prompt, train.overrides) == ("chat", True, False, ())
    assert (run.target.samples, run.target.sampling.temperature, run.target.sampling.top_p) == (5, 0.6, 0.95)


def test_the_compatible_trainer_is_refused_but_for_the_objections_that_it_names(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = planned(COMPAT).run
    folder = target_of(run, models, tmp_path, monkeypatch).trainable_folder()
    template = ChatTemplate.load(folder, run.target.reasoning_format)
    train = training_of(run)
    assert (train.render, train.train_on_prompt, train.teach_end, train.max_length) == ("plain", True, False, 2048)
    found = gate(train, folder, template)
    assert {"prompt_not_served", "prompt_in_loss", "end_not_taught"} <= set(found) <= set(train.overrides)
    for name in found:
        narrower = train.model_copy(update={"overrides": tuple(o for o in train.overrides if o != name)})
        with pytest.raises(SetupError, match=name):
            gate(narrower, folder, template, raises=True)
    gate(train, folder, template, raises=True)


def gate(train: TrainSettings, folder: Path, template: ChatTemplate, *, raises: bool = False) -> list[str]:
    """The names of the fidelity gate's objections to rows of ours; `raises` lets it refuse."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    rows = render_rows(ROWS, template, tokenizer, train)
    architecture = find_architecture(folder)
    assert architecture is not None
    limits = ModelLimits(vocab_size=architecture.vocab, context_length=architecture.context)
    judged = require_fidelity if raises else objections
    return [found.name for found in judged(rows, template, train, limits=limits, num_examples=len(ROWS))]


def test_the_order_of_arms_is_kept_and_decides_nothing() -> None:
    """Arms that share units: whichever stands first in the file, the units are the same arm's, also as stored."""
    run = load_run_file(ROOT / "services" / "tracemend" / "embedded" / "demo.yaml")
    turned = run.model_copy(update={"arms": dict(reversed(run.arms.items()))})
    plan, other = resolve(run), resolve(turned)
    assert len(set(plan.owners.values())) < len(plan.owners), "some arms share units"
    assert dict(plan.owners) == dict(other.owners)
    assert plan.digest == other.digest
    assert from_content(other.content) == other
    assert list(from_content(other.content).run.arms) == list(reversed(run.arms))
