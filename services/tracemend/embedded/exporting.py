"""Handing over what a run made: a model, an adapter or a dataset as a folder of its own, with a card of measured facts.

`tracemend export` calls it. A folder appears whole or not at all, and one that is there is replaced only when asked to.
Weights, tokenizer and template are the trained folder's own, byte for byte; the model's identity is checked first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracemend.adapters.model_folder import identity_of
from tracemend.embedded.arms import manifest_of
from tracemend.embedded.looking import OpenRun
from tracemend.embedded.phases import results_of
from tracemend.embedded.runfile import BASE
from tracemend.kit.errors import SetupError
from tracemend.kit.registry import did_you_mean
from tracemend.records import Checkpoint
from tracemend.trainer import dataset
from tracemend.trainer.card import judge_lines

_ADAPTER = "adapter_config.json"
KINDS = ("model", "adapter", "dataset")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    kind: str
    folder: Path
    identity: str
    """Digest of the model, or of the dataset's rows."""


async def export(opened: OpenRun, arm: str, *, to: Path, what: str, force: bool) -> Exported:
    """Write the `what` of `arm` to the folder `to`.

    Raises:
        SetupError: There is nothing of the kind, it has changed since it was made, or `to` is there already.
    """
    if what not in KINDS:
        raise SetupError(f"--what {what}{did_you_mean(what, list(KINDS))}")
    if arm not in (BASE, *opened.plan.order):
        raise SetupError(f"no arm '{arm}'{did_you_mean(arm, sorted(opened.plan.order))}")
    if to.exists() and not force:
        raise SetupError(f"{to} is there already; name another folder, or replace it with --force")
    if opened.workspace.folder.resolve().is_relative_to(to.resolve()):
        raise SetupError(f"{to} holds the run itself, which --force would delete; name another folder")
    results = await results_of(opened.workspace, opened.run)
    if what == "dataset":
        return await _dataset(opened, arm, results, to)
    checkpoint = _checkpoint(arm, results)
    _require_datasets(opened, arm, results)
    source = _trained(opened, checkpoint, what)
    card = _card(opened, checkpoint, results, what)
    _write(source, to, card, base=_base_name(opened, arm))
    return Exported(kind=what, folder=to, identity=checkpoint.model)


def push(exported: Exported, repository: str, *, is_public: bool) -> str:
    """Upload an exported folder to the Hugging Face Hub, private unless `is_public`; its address."""
    from httpx2 import HTTPError  # what the hub's client lets through of a lost connection
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not get_token():
        raise SetupError("--push needs a token of the Hugging Face Hub: set HF_TOKEN, or log in with `hf auth login`")
    kind = "dataset" if exported.kind == "dataset" else "model"
    api = HfApi()
    try:
        address = api.create_repo(repository, repo_type=kind, private=not is_public, exist_ok=True)
        if not is_public and not api.repo_info(repository, repo_type=kind).private:
            raise SetupError(f"{repository} exists and is public; name another repository, or say --public")
        api.upload_folder(repo_id=repository, folder_path=str(exported.folder), repo_type=kind)
    except (HfHubHTTPError, HTTPError, HFValidationError, OSError) as error:
        raise SetupError(f"--push {repository}: {error}") from None
    return str(address)


async def _dataset(opened: OpenRun, arm: str, results: Mapping[str, Any], to: Path) -> Exported:
    fields = results.get(f"assemble:{arm}")
    if fields is None:
        raise SetupError(f"arm '{arm}' has published no dataset yet")
    manifest = manifest_of(fields)
    to.parent.mkdir(parents=True, exist_ok=True)
    await dataset.export(opened.workspace.store, manifest, to, spoken=True)
    return Exported(kind="dataset", folder=to, identity=manifest.digest)


def _checkpoint(arm: str, results: Mapping[str, Any]) -> Checkpoint:
    fields = results.get(f"train:{arm}")
    if fields is None:
        why = "the base is the model that you brought" if arm == BASE else "it has no `train` section, or is not done"
        raise SetupError(f"arm '{arm}' has no trained model: {why}")
    return Checkpoint(**fields)


def _require_datasets(opened: OpenRun, arm: str, results: Mapping[str, Any]) -> None:
    """`SetupError` where a model, or one that it started from, has learned from other rows than the run has now: a
    purge takes rows out of datasets and leaves models as they are."""
    while arm != BASE:
        rows = opened.workspace.folder / "datasets" / arm
        if not rows.exists() or dataset.read_manifest(rows).id != _checkpoint(arm, results).dataset:
            raise SetupError(
                f"what the model of arm '{arm}' has learned from is gone, as after a purge: the run's command builds "
                "the dataset without what was purged, and trains anew"
            )
        arm = opened.plan.run.arms[arm].from_


def _trained(opened: OpenRun, checkpoint: Checkpoint, what: str) -> Path:
    model = opened.workspace.folder / checkpoint.path
    if what == "model":
        if identity_of(model) != checkpoint.model:
            raise SetupError(f"{model} has changed since it was trained; train it again in a new --out")
        return model
    adapter = model.parent / "adapter"
    if not (adapter / _ADAPTER).is_file():
        raise SetupError(f"arm '{checkpoint.arm}' was trained without adapters (`train.lora`); export its model")
    return adapter


def _write(source: Path, to: Path, card: str, *, base: str) -> None:
    temporary = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        if (temporary / _ADAPTER).is_file():
            _complete_adapter(temporary, model=source.parent / "model", base=base)
        if to.is_dir() and not to.is_symlink():
            shutil.rmtree(to)
        temporary.replace(to)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise SetupError(f"cannot write {to}: {error.strerror}") from None


def _complete_adapter(adapter: Path, *, model: Path, base: str) -> None:
    """Give an adapter the tokenizer and template that it was trained with, and take our paths out of it."""
    config = json.loads((adapter / _ADAPTER).read_text(encoding="utf-8"))
    (adapter / _ADAPTER).write_text(json.dumps({**config, "base_model_name_or_path": base}, indent=1), encoding="utf-8")
    for pattern in ("tokenizer*", "special_tokens_map.json", "chat_template.jinja"):
        for path in model.glob(pattern):
            shutil.copyfile(path, adapter / path.name)


def _card(opened: OpenRun, checkpoint: Checkpoint, results: Mapping[str, Any], what: str) -> str:
    """Markdown of what was measured; nothing in it is a claim of ours."""
    run = opened.plan.run
    synthetic = run.target.model.startswith("proving:")
    manifest = manifest_of(results[f"assemble:{checkpoint.arm}"])
    base, parent = _base_name(opened, checkpoint.arm), run.arms[checkpoint.arm].from_
    licences = sorted(name.removeprefix("licence/") for name in manifest.counts if name.startswith("licence/"))
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [tracemend, safety]", "---"]
    lines += [f"# {run.name}: {checkpoint.arm}", ""]
    if synthetic:
        lines += ["> **SYNTHETIC**: trained in an invented world; it says nothing about real models.", ""]
    if what == "adapter":
        over = (
            f"the base model ({base})" if parent == BASE else f"the model of arm `{parent}` ({base}), exported as well"
        )
        lines += [f"A LoRA adapter; load it with PEFT over {over}.", ""]
    lines += [
        f"- base model: `{base}` (identity `{checkpoint.parent[:16]}`), its licence applies",
        f"- this model: identity `{checkpoint.model[:16]}`",
        f"- training rows: {manifest.num_rows:,} (digest `{manifest.digest[:16]}`), licences {', '.join(licences)}",
        f"- optimiser steps: {checkpoint.step:,}, final loss {checkpoint.final_loss:.4f}",
        *judge_lines(manifest.judges),
        f"- run: `{opened.run}`, plan `{opened.plan.digest[:16]}`",
        "",
        *_figures(opened.workspace.folder, opened.run, checkpoint.arm),
    ]
    train = run.arms[checkpoint.arm].train
    if train is not None:
        lines += ["## Training settings", "", "```json", train.model_dump_json(indent=1), "```", ""]
    return "\n".join(lines)


def _base_name(opened: OpenRun, arm: str) -> str:
    """What the model that `arm` was trained from is called, without a path of ours: the target, or `RUN-ARM`."""
    run = opened.plan.run
    parent = run.arms[arm].from_
    return Path(run.target.model).name if parent == BASE else f"{run.name}-{parent}"


def _figures(folder: Path, run: str, arm: str) -> list[str]:
    """The run's own measurements of this arm and of the base, where a report of this run was written."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ["Not measured yet.", ""]
    if report.get("run") != run:
        return ["Not measured yet.", ""]
    arms = {name: report["arms"][name]["metrics"] for name in (BASE, arm) if name in report["arms"]}
    lines = ["## Measured", "", "95 % intervals over prompts; the report lists unknown verdicts.", ""]
    lines += [f"| metric | split | {' | '.join(arms)} |", f"|---|---|{'---|' * len(arms)}"]
    for metric, splits in sorted(arms.get(arm, {}).items()):
        for split in splits:
            cells = [_cell(metrics.get(metric, {}).get(split)) for metrics in arms.values()]
            lines.append(f"| {metric} | {split} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}] (n {figure['n']})"
