"""The commands and their arguments. Bodies live in the modules that the commands import when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracemend.cli import operating, topics
from tracemend.cli.cluster_commands import MaybeToOption, add_commands, cluster_of

app = typer.Typer(
    name="tracemend",
    help="Find where a reasoning model's trace turns unsafe, mend it there, retrain the model, measure what changed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs no rich, which takes as long to import as all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
)
judge_app = typer.Typer(
    help="List judges and detectors, and measure one against human labels.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(judge_app, name="judge")
guard_app = typer.Typer(
    help="Watch a model's reasoning while it writes, and turn it where it turns.",
    short_help="An OpenAI-compatible server whose reasoning is watched.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(guard_app, name="guard")
app.add_typer(topics.app, name="topics")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        print(f"tracemend {version('tracemend')}")
        raise typer.Exit


@app.callback()
def commands(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find where a reasoning model's trace turns unsafe, mend it there, retrain the model, measure what changed."""


@guard_app.callback()
def guard_commands() -> None:
    """Watch a model's reasoning while it writes, and turn it where it turns."""


RunFileArgument = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Take only the first N rows of every prompt source and benchmark.")
]


@app.command(short_help="Run the whole loop on the proving ground.")
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/demo"),
    as_json: JsonOption = False,
) -> None:
    """Run the whole loop on the proving ground: a tiny model, five arms, a report. No download, no GPU."""
    from tracemend.cli.running import demo as body

    body(out, as_json=as_json)


@app.command(short_help="Run a whole loop, or go on with it.")
def run(
    run_file: RunFileArgument,
    out: Annotated[Path, typer.Option(help="Folder of the run; started again, it goes on there.")],
    limit: LimitOption = None,
    dry_run: Annotated[bool, typer.Option(help="Check everything that can be checked, then stop.")] = False,
    from_phase: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PHASE",
            help="Do again from: sample, judge, correct. Given once; the command without it goes on from there.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a whole loop in one process. Killed and started again with the same command, it goes on."""
    from tracemend.cli.running import run as body

    body(run_file, out, limit=limit, dry_run=dry_run, from_phase=from_phase, as_json=as_json)


@app.command(short_help="What a run will take, before anything is spent.")
def estimate(
    run_file: RunFileArgument,
    assume: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Change an assumption; may be repeated.")
    ] = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tokens, money, hours, rows and memory per GPU, before anything is spent."""
    from tracemend.cli.planning import estimate as body

    body(run_file, given=assume or [], limit=limit, as_json=as_json)


@app.command(short_help="One row's whole story.")
def trace(
    folder: FolderArgument,
    wanted: Annotated[
        str,
        typer.Argument(metavar="ID", help="Of a prompt, trajectory, verdict, outcome or row; a beginning will do."),
    ],
    show_text: Annotated[bool, typer.Option("--show-text", help="Show what prompts and models say.")] = False,
    to: MaybeToOption = None,
    as_json: JsonOption = False,
) -> None:
    """One row's whole story: prompt, samples, verdicts, rewrites, forks, outcomes, where it was published."""
    if (address := cluster_of(folder, to)) is not None:
        from tracemend.cli.submitting import trace as on_cluster

        if show_text:
            raise typer.BadParameter(
                "a cluster shows text to reviewers alone: docs/client.md", param_hint="--show-text"
            )
        on_cluster(str(folder), wanted, to=address, as_json=as_json)
        return
    from tracemend.cli.telling import trace as body

    body(folder, wanted, shows_text=show_text, as_json=as_json)


@app.command(short_help="Where traces turn: continuation safety ratios.")
def csr(
    folder: FolderArgument,
    trajectories: Annotated[
        list[str] | None,
        typer.Argument(metavar="TRAJECTORY_ID", help="Traces to measure; beginnings of their ids will do."),
    ] = None,
    uncertain: Annotated[int, typer.Option(min=0, help="Take N prompts with safe and unsafe samples instead.")] = 0,
    per_side: Annotated[int, typer.Option(min=1, help="Unsafe and safe traces of each such prompt.")] = 1,
    least_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of its samples that must be safe, and unsafe.")
    ] = 0.25,
    arm: Annotated[str, typer.Option(help="The arm whose model wrote them.")] = "base",
    continuations: Annotated[int, typer.Option(min=1, help="Samples drawn at each place.")] = 32,
    every: Annotated[str, typer.Option(help="step or token: where they are drawn.")] = "step",
    safe_at_least: Annotated[float, typer.Option(help="Ratio that settles a trace on safety.")] = 0.9,
    unsafe_at_most: Annotated[float, typer.Option(help="Ratio that settles it on harm.")] = 0.1,
    window_tokens: Annotated[int, typer.Option(min=0, help="Tokens that a ratio must hold for.")] = 15,
    figures: Annotated[str, typer.Option(help="svg, png or none: pictures in DIR/csr.")] = "svg",
    triggers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the mined triggers there, as a pool.")
    ] = None,
    min_prompts: Annotated[int, typer.Option(min=1, help="Prompts that a mined trigger must have turned.")] = 1,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show and draw what models wrote.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Where traces turn: the share of safe continuations at every step, turning points, cues and mined triggers."""
    from tracemend.cli.csr import Output
    from tracemend.cli.csr import csr as body
    from tracemend.embedded.csr import Asked

    body(
        folder,
        Asked(
            trajectories=tuple(trajectories or ()),
            uncertain=uncertain,
            per_side=per_side,
            least_share=least_share,
            arm=arm,
        ),
        Output(figures=figures, triggers=triggers, min_prompts=min_prompts, reveal=reveal, as_json=as_json),
        continuations=continuations,
        every=every,
        safe_at_least=safe_at_least,
        unsafe_at_most=unsafe_at_most,
        window_tokens=window_tokens,
    )


@app.command(short_help="Check the run's conservation laws.")
def verify(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Check the run's conservation laws: nothing lost, nothing doubled, every row judged. Exits with 3 if broken."""
    from tracemend.cli.looking import verify as body

    body(folder, as_json=as_json)


@app.command(short_help="What did not end well, with the remedy.")
def failures(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """What did not end well, grouped by reason, with the remedy."""
    from tracemend.cli.looking import show_failures

    show_failures(folder, as_json=as_json)


@app.command(short_help="Have units that ended badly end once more.")
def redrive(
    folder: FolderArgument,
    arm: Annotated[str | None, typer.Option(metavar="ARM", help="Only units of this arm.")] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="REASON", help="Only units that ended for it; `failures` lists reasons.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them and open none.")] = False,
    to: MaybeToOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open dead, rejected and given-up units anew; the run's command then ends them once more, with new attempts.

    By --reason also units that were not selected as dead, unknown or below_full_marks; other decisions stand.
    """
    if (address := cluster_of(folder, to)) is not None:
        from tracemend.cli.submitting import redrive as on_cluster

        on_cluster(str(folder), to=address, arm=arm, reason=reason, dry_run=dry_run, as_json=as_json)
        return
    from tracemend.cli.keeping import redrive as body

    body(folder, arm=arm, reason=reason, dry_run=dry_run, as_json=as_json)


@app.command(short_help="Write the report again from what is stored.")
def report(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Write report.html and report.json again from what is stored, and print the headline figures."""
    from tracemend.cli.looking import report as body

    body(folder, as_json=as_json)


@app.command(short_help="Write an arm's model, adapter or dataset.")
def export(
    folder: FolderArgument,
    arm: Annotated[str, typer.Argument(metavar="ARM", help="The arm whose result to export.")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to write it.")],
    what: Annotated[str, typer.Option(help="model (adapters merged), adapter or dataset.")] = "model",
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload it to the Hugging Face Hub as well.")
    ] = None,
    public: Annotated[bool, typer.Option(help="Make the uploaded repository public.")] = False,
    force: Annotated[bool, typer.Option(help="Replace FOLDER if it is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an arm's model, adapter or dataset as a folder of its own, with a card made of measured facts."""
    from tracemend.cli.handing import export as body

    body(folder, arm, to=to, what=what, push=push, is_public=public, force=force, as_json=as_json)


@app.command(short_help="Examine a model of your own.")
def doctor(
    model: Annotated[Path, typer.Argument(metavar="MODEL_FOLDER", help="A Hugging Face model folder.")],
    engine: Annotated[str, typer.Option(help="transformers or vllm.")] = "transformers",
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="Prompts of your own, one per line.")] = None,
    reasoning_format: Annotated[str, typer.Option(help="auto, think, r1, qwen3 or none.")] = "auto",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest sample.")] = 1024,
    as_json: JsonOption = False,
) -> None:
    """Five samples of your own model: template, tags, end token, parser, lengths, what would go wrong in training."""
    from tracemend.cli.examining import doctor as body

    body(
        model,
        engine=engine,
        prompts=prompts,
        reasoning_format=reasoning_format,
        max_new_tokens=max_new_tokens,
        as_json=as_json,
    )


@app.command(short_help="Remove a prompt and all that was written for it.")
def purge(
    folder: FolderArgument,
    prompt: Annotated[str, typer.Option(metavar="ID", help="The prompt to remove; `trace` finds its id.")],
    as_json: JsonOption = False,
) -> None:
    """Remove a prompt and everything that was written for it from a run's folder."""
    from tracemend.cli.keeping import purge as body

    body(folder, prompt, as_json=as_json)


@app.command(short_help="Delete stored payloads that nothing needs.")
def gc(
    folder: FolderArgument,
    grace_hours: Annotated[float, typer.Option(min=0, help="Keep what is younger.")] = 24.0,
    as_json: JsonOption = False,
) -> None:
    """Delete stored payloads that nothing refers to any more. Never while a run is working."""
    from tracemend.cli.keeping import gc as body

    body(folder, grace_hours=grace_hours, as_json=as_json)


operating.register(app)


@guard_app.command("serve", short_help="An OpenAI-compatible server under a guard.")
def guard_serve(
    model: Annotated[str, typer.Option(metavar="ENGINE", help="transformers:FOLDER, vllm:FOLDER or openai:MODEL@URL.")],
    detector: Annotated[str | None, typer.Option(help="Who finds compliance cues: rule_cue, llm_cue, …")] = None,
    detector_model: Annotated[
        str | None, typer.Option(metavar="ENGINE", help="The engine of the model that the detector asks.")
    ] = None,
    triggers: Annotated[str, typer.Option(help="The pool that inserted sentences come from.")] = "safety",
    mode: Annotated[str, typer.Option(help="enforce, monitor (look and count) or off.")] = "enforce",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of the guard: max_interventions, chunk_tokens, refusal, …"),
    ] = None,
    detector_option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the detector.")] = None,
    engine_option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the engine.")] = None,
    name: Annotated[str, typer.Option(help="The model's name for clients; else its folder's.")] = "",
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The model's tokenizer files, where ENGINE is an endpoint.")
    ] = None,
    reasoning_format: Annotated[str, typer.Option(help="auto, think, r1, qwen3 or none.")] = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8700,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest response that anybody gets.")] = 8192,
    temperature: Annotated[float, typer.Option(min=0, help="For requests that do not say.")] = 0.6,
    top_p: Annotated[float, typer.Option(help="For requests that do not say.")] = 0.95,
    max_running: Annotated[int, typer.Option(min=1, help="Responses written at once.")] = 32,
    max_waiting: Annotated[int, typer.Option(min=0, help="Requests in line behind them.")] = 256,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Largest request.")] = 1_048_576,
    timeout_s: Annotated[float, typer.Option(help="For one response, time in line included.")] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """An OpenAI-compatible server in front of ENGINE, under a guard. TRACEMEND_GUARD_KEY sets a bearer key for it."""
    from tracemend.cli.guard import serve as body

    body(
        model,
        detector=detector,
        detector_model=detector_model,
        detector_options=detector_option or [],
        triggers=triggers,
        mode=mode,
        guard_options=option or [],
        engine_options=engine_option or [],
        name=name,
        tokenizer=tokenizer,
        reasoning_format=reasoning_format,
        limits={
            "max_running": max_running,
            "max_waiting": max_waiting,
            "max_body_bytes": max_body_bytes,
            "timeout_s": timeout_s,
        },
        sampling={"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p},
        host=host,
        port=port,
        as_json=as_json,
    )


@judge_app.command("list", short_help="The judges and detectors that a run file can name.")
def judge_list(as_json: JsonOption = False) -> None:
    """The judges and detectors that a run file can name."""
    from tracemend.cli.judging import list_judges

    list_judges(as_json=as_json)


@judge_app.command("calibrate", short_help="A judge against human labels.")
def judge_calibrate(
    judge: Annotated[str, typer.Argument(metavar="JUDGE", help="A judge's name; `tracemend judge list` shows them.")],
    labels: Annotated[Path, typer.Option(metavar="FILE", help="JSONL or CSV with prompt, response and label.")],
    models: Annotated[
        Path | None, typer.Option(metavar="RUN.yaml", help="The run file whose `models` the judge may ask.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="The model that the judge asks; may be repeated.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the judge; may be repeated.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="NAME=COLUMN", help="What FILE calls prompt, response, label, …")
    ] = None,
    word: Annotated[
        list[str] | None, typer.Option(metavar="WORD=VALUE", help="What a label word means: safe or unsafe.")
    ] = None,
    part: Annotated[str, typer.Option(help="reasoning, answer or whole.")] = "answer",
    axis: Annotated[str, typer.Option(help="harm, refusal or correctness.")] = "harm",
    as_json: JsonOption = False,
) -> None:
    """A judge against human labels: agreement, sensitivity, specificity and kappa, with intervals."""
    from tracemend.cli.judging import calibrate as body

    body(
        judge,
        labels=labels,
        models=models,
        named=model or [],
        options=option or [],
        columns=column or [],
        words=word or [],
        part=part,
        axis=axis,
        as_json=as_json,
    )


@judge_app.command("cues", short_help="A detector against labelled cue positions.")
def judge_cues(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR", help="A detector; `tracemend judge list` shows them.")],
    labels: Annotated[
        Path, typer.Option(metavar="FILE", help="JSONL or CSV with prompt, reasoning and step (0 for no cue).")
    ],
    models: Annotated[
        Path | None, typer.Option(metavar="RUN.yaml", help="The run file whose `models` the detector may ask.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model that the detector asks.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the detector; may be repeated.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="NAME=COLUMN", help="What FILE calls prompt, reasoning and step.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """A detector against labelled cue positions: the very sentence, one off, cue or none, with intervals."""
    from tracemend.cli.judging import cues as body

    body(
        detector,
        labels=labels,
        models=models,
        model=model,
        options=option or [],
        columns=column or [],
        as_json=as_json,
    )


add_commands(app)
