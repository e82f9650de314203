"""Every run file that we ship is sound: it validates, plans, finds its judges, and fits the model that it is for.

No weights are needed: a real model is stood in for by a tiny one of its architecture with a chat template like R1's,
and by its published shape.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.contract import tiny_models
from tests.needs import needs_data
from tests.unit.trainer.trainer_builders import example_of, prompt_of

from tracemend.corrector.triggers import find_triggers
from tracemend.embedded.architectures import PUBLISHED, find_architecture
from tracemend.embedded.assumptions import Assumptions
from tracemend.embedded.checking import check_corrections, check_run
from tracemend.embedded.environment import names_in
from tracemend.embedded.estimating import estimate
from tracemend.embedded.memory import memory_needs
from tracemend.embedded.models import Target, find_target, open_helpers
from tracemend.embedded.plan import Plan, from_content, resolve
from tracemend.embedded.progress import Silent
from tracemend.embedded.resources import MACHINES
from tracemend.embedded.runfile import RunFile, load_run_file
from tracemend.ingestion.settings import PromptsSettings
from tracemend.judge.service import JudgeService
from tracemend.kit.errors import SetupError
from tracemend.records import Pair, Parse, Part, Unit
from tracemend.redaction import Text
from tracemend.traces.template import ChatTemplate
from tracemend.trainer.algorithm import make_algorithm
from tracemend.trainer.fidelity import ModelLimits, objections, require_fidelity
from tracemend.trainer.pair_fidelity import pair_objections
from tracemend.trainer.pair_rows import render_pairs
from tracemend.trainer.pair_table import ServedPair
from tracemend.trainer.pairs import BENIGN, INTERVENED, pair_fault
from tracemend.trainer.rendering import render_rows
from tracemend.trainer.settings import TrainSettings

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SHIPPED = [*EXAMPLES, ROOT / "services" / "tracemend" / "embedded" / "demo.yaml"]
R1 = [path for path in EXAMPLES if path.stem.startswith("unsafechain-r1-")]
IPO = [path for path in EXAMPLES if path.stem.startswith("ipo-") and path.stem != "ipo-full"]
COMPAT = ROOT / "examples" / "unsafechain-compat.yaml"
# Reasoning is cut from assistant turns, and the prompt opens the block.
R1_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'].split('</think>')[-1] + '<|end|>' }}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"
)
# Hybrid, as Qwen3's: thinking, the model writes both tags itself; not thinking, the prompt has an empty block.
QWEN3_TEMPLATE = R1_TEMPLATE.replace(
    "<|assistant|><think>\\n' }}",
    "<|assistant|>' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}",
)
ROWS = [example_of(number) for number in range(6)]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every variable that a run file names, with nobody behind it: nothing here connects."""
    benign = tmp_path / "own-prompts.jsonl"
    benign.write_text(json.dumps({"question": "how do I make bread"}) + "\n", encoding="utf-8")
    for path in SHIPPED:
        for name in names_in(path.read_text(encoding="utf-8")):
            value = "http://127.0.0.1:9/v1" if name.endswith("_URL") else "model"
            monkeypatch.setenv(name, str(benign) if name.endswith("_FILE") else value)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: one tiny stand-in per published model, under its name."""
    folder = tmp_path_factory.mktemp("models")
    for name, architecture in PUBLISHED.items():
        tiny_models.build(folder / name, architecture.model_type, context=16_384)
        tokenizer = tiny_models.build_tokenizer()
        tokenizer.chat_template = QWEN3_TEMPLATE if architecture.model_type == "qwen3" else R1_TEMPLATE
        tokenizer.save_pretrained(folder / name)
    return folder


def planned(path: Path) -> Plan:
    return resolve(load_run_file(path))


def target_of(run: RunFile, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setenv("TRACEMEND_MODELS", str(models))
    return find_target(run.target, seed=run.seed, cache=tmp_path, observer=Silent())


def trainings_of(run: RunFile) -> dict[str, TrainSettings]:
    return {name: arm.train for name, arm in run.arms.items() if arm.train is not None}


def training_of(run: RunFile) -> TrainSettings:
    (train,) = [arm.train for arm in run.arms.values()]
    assert train is not None
    return train


def test_the_folder_holds_the_run_files_that_the_tests_speak_of() -> None:
    assert len(R1) == 3
    assert {path.stem for path in IPO} == {"ipo-r1-llama-8b", "ipo-r1-qwen-7b", "ipo-qwen3-8b"}
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
    assert "own-prompts" not in content
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


@pytest.mark.parametrize("path", IPO, ids=lambda path: path.stem)
def test_an_ipo_run_forks_prefers_and_supervises_in_one_format(
    path: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template path, the parser and both gates, on the model's own architecture with a template like its own."""
    run = planned(path).run
    folder = target_of(run, models, tmp_path, monkeypatch).trainable_folder()
    template = ChatTemplate.load(folder, run.target.reasoning_format)
    is_hybrid = "qwen3" in path.stem
    assert template.format.name == ("qwen3" if is_hybrid else "r1")
    opens = template.decode(template.prompt_tokens(Text("a question"))).reveal().endswith("<think>\n")
    assert opens is not is_hybrid
    pairs = [*(forked(number, template) for number in range(6)), refused(6, template)]
    assert [pair_fault(pair, template) for pair in pairs] == [""] * len(pairs)
    for train in trainings_of(run).values():
        if make_algorithm(train).kind == "pairs":
            assert pair_gate(train, folder, template, pairs) == []
            endless = dataclasses.replace(pairs[0], chosen_tokens=pairs[0].chosen_tokens[: pairs[0].prefix_tokens + 4])
            assert "span_not_closed" in pair_gate(train, folder, template, [endless])
        else:
            assert gate(train, folder, template) == []


@pytest.mark.parametrize("path", IPO, ids=lambda path: path.stem)
def test_an_ipo_run_fits_the_machine_that_it_names_in_length_and_memory(path: Path) -> None:
    """By published shapes; two sides of a pair at their longest are in memory at once."""
    run = planned(path).run
    architecture = find_architecture(run.target.model)
    assert architecture is not None, "the folder has the published model's name"
    longest = run.target.engine_options["max_model_len"]
    assert isinstance(longest, int)
    assert run.target.sampling.max_new_tokens < longest <= architecture.context
    for train in trainings_of(run).values():
        assert isinstance(train.max_length, int)
        assert train.max_length <= architecture.context
    needs = [need for need in memory_needs(run)[0] if need.machine == run.resources.preset]
    assert {need.phase for need in needs} >= {"sample", "train intervened_po_1", "train sft_intervened"}
    assert [need.phase for need in needs if not need.fits] == []


@pytest.mark.parametrize("path", IPO, ids=lambda path: path.stem)
def test_ipo_runs_have_the_papers_counts_and_equal_terms_for_every_arm(path: Path) -> None:
    """methods.md §11 to §13 [P], §12.4 [X]."""
    run = planned(path).run
    sampling, evaluate = run.target.sampling, run.evaluate
    assert (run.target.samples, len(find_triggers("safety"))) == (6, 6)
    assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (0.6, 0.95, 8192)
    assert evaluate is not None
    assert (evaluate.samples, evaluate.sampling) == (3, None)
    assert run.judge.harm.parts == (Part.REASONING, Part.ANSWER)
    assert run.judge.detector is not None
    assert run.judge.verifier is not None
    asked = {run.judge.harm.model, run.judge.detector.model, run.judge.verifier.model}
    assert len({run.models[name].engine for name in asked if name}) == 3, "three roles, three models"
    trainings = trainings_of(run)
    assert trainings["intervened_po_1"].options.items() >= {"alpha": 0.2, "beta": 0.1}.items()
    same = ("learning_rate", "batch_size", "gradient_accumulation", "scheduler", "max_length", "lora")
    assert len({tuple(getattr(train, name) for name in same) for train in trainings.values()}) == 1
    for preferred, supervised in (
        ("intervened_po_1", "sft_intervened"),
        ("intervened_po_2", "sft_intervened_benign"),
    ):
        assert run.arms[supervised].assemble.rows_of == preferred
        assert trainings[supervised].epochs == trainings[preferred].epochs, "the same number of steps"


@pytest.mark.parametrize("path", IPO, ids=lambda path: path.stem)
def test_an_ipo_run_plans_the_papers_attempts_and_expects_its_yield(path: Path) -> None:
    """methods.md §11 [D]: 6,000 attempts, of which 0.6 are unsafe and 0.4 of those mended by one replacement."""
    prompts = [
        PromptsSettings.model_validate({"source": "numbered", "count": 1000}),
        PromptsSettings.model_validate({"source": "numbered", "count": 915, "category": "lookalike", "start": 1000}),
    ]
    run = load_run_file(path).model_copy(update={"prompts": prompts, "evaluate": None})
    found = estimate(run, Assumptions(unsafe_share=0.6, fork_share=0.4, refused_share=0.2))
    calls = {item.what: item.num_calls for item in found.items}
    assert calls["fork"] == 3600
    assert calls["find cues"] == 3600 + 3600
    assert found.rows["intervened_po_1"] == found.rows["sft_intervened"] == 1440
    assert found.rows["intervened_po_2"] == found.rows["sft_intervened_benign"] == 675 + 225, "any of 6 samples"


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


def forked(number: int, template: ChatTemplate) -> Pair:
    """A sample cut in its reasoning, and its mended side, both in ids as the loop makes them."""
    row, trigger = ROWS[number], find_triggers("safety")[number]
    rejected = template.response_tokens(row.reasoning, row.answer)
    reasoning = template.split(rejected).reasoning_tokens
    h = (reasoning.start + reasoning.end) // 2
    inserted = template.plain_tokens(Text(f" {trigger.text.reveal()}"))
    chosen = (*rejected[:h], *inserted, *template.closing_tokens(Text("no .")))
    return pair_of(number, template, chosen=chosen, rejected=rejected, prefix=h, kind=INTERVENED, trigger=trigger.text)


def refused(number: int, template: ChatTemplate) -> Pair:
    """An answer and a refusal of a harmless prompt."""
    chosen, rejected = (
        template.response_tokens(Text(f"let me think {word}"), Text(word)) for word in ("then bread", "no")
    )
    prefix = next(at for at, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    return pair_of(number, template, chosen=chosen, rejected=rejected, prefix=prefix, kind=BENIGN, trigger=Text(""))


def pair_of(
    number: int,
    template: ChatTemplate,
    *,
    chosen: tuple[int, ...],
    rejected: tuple[int, ...],
    prefix: int,
    kind: str,
    trigger: Text,
) -> Pair:
    prompt = prompt_of(number)
    return Pair(
        id=f"pair_{number}",
        unit=Unit(arm="arm", prompt=prompt.id, sample=0),
        prompt=prompt,
        chosen_tokens=chosen,
        rejected_tokens=rejected,
        prefix_tokens=prefix,
        kind=kind,
        chosen=template.decode(chosen),
        rejected=template.decode(rejected),
        trigger=trigger,
    )


def pair_gate(train: TrainSettings, folder: Path, template: ChatTemplate, pairs: Sequence[Pair]) -> list[str]:
    """The names of the pair gate's objections."""
    architecture = find_architecture(folder)
    assert architecture is not None
    limits = ModelLimits(vocab_size=architecture.vocab, context_length=architecture.context)
    spans = make_algorithm(train).spans
    tokens = {pair.id: template.prompt_tokens(pair.prompt.text) for pair in pairs}
    served = [
        ServedPair(pair=pair, prompt=template.decode(tokens[pair.id]), prompt_tokens=tokens[pair.id]) for pair in pairs
    ]
    rows = render_pairs(served, template, spans)
    return [found.name for found in pair_objections(rows, template, train, limits=limits, spans=spans)]


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
