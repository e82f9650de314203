"""The commands and their arguments. Bodies live in the modules that the commands import when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="tracemend",
    help="Find where a reasoning model's trace turns unsafe, mend it there, retrain the model, measure what changed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help needs no rich, which takes as long to import as all the rest
    context_settings={"help_option_names": ["-h", "--help"]},
)
judge_app = typer.Typer(
    help="List judges, and measure one against human labels.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(judge_app, name="judge")

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
    as_json: JsonOption = False,
) -> None:
    """One row's whole story: prompt, samples, verdicts, rewrites, outcomes, where it was published."""
    from tracemend.cli.telling import trace as body

    body(folder, wanted, shows_text=show_text, as_json=as_json)


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


@judge_app.command("list", short_help="The judges that a run file can name.")
def judge_list(as_json: JsonOption = False) -> None:
    """The judges that a run file can name."""
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
