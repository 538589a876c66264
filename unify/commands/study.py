"""`unify study | report | findings`: studies and what they found. Heavy imports are inside."""

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from unify.commands.arguments import Against, Json, Overrides, Tiny, each_once, emit, say
from unify.support.fast_imports import fast_imports
from unify.support.terminal import echo

FOR_THE_REPORT = (
    "--against is for the report, which --arm, --choose and --dry-run do not write: leave it out "
    "here, and give it to the `unify study` that reports (with --gather, of runs that are there)"
)
FOR_ONE_ARM = "--untimed says how one --arm is run; name it"
ONE_OR_SOME = (
    "--seed names one of the study's seeds, --seeds says how many it has and --gather is of all; "
    "keep one"
)


def study(
    file: Annotated[Path, typer.Argument(help="Study YAML.")],
    overrides: Overrides = None,
    tiny: Tiny = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the runs and stop.")] = False,
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs at once, each with its share of the cores.")
    ] = 1,
    only: Annotated[str, typer.Option(help="Arms like this, e.g. 'ar_vq*'; others stay.")] = "*",
    seeds: Annotated[int, typer.Option(min=0, help="So many seeds, from 0 on; 0: the file's.")] = 0,
    arm: Annotated[str, typer.Option(help="Train and score this arm, and report nothing.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="This seed alone; others stay.")] = None,
    untimed: Annotated[
        bool, typer.Option("--untimed", help="With --arm: leave speed to a quiet machine.")
    ] = False,
    gather: Annotated[
        bool, typer.Option("--gather", help="Train nothing: report what the runs have.")
    ] = False,
    choose: Annotated[
        bool, typer.Option("--choose", help="Train nothing: take the best of the trials that ran.")
    ] = False,
    against: Against = "",
    as_json: Json = False,
) -> int:
    """Train what is missing, evaluate, compare, report."""
    other = arm or choose or dry_run
    _check_options(untimed and not arm, against and other, seed is not None and (seeds or gather))
    with fast_imports():
        from unify.study.jobs import StudyRequest

    words = [*(overrides or []), *([f"seeds={list(range(seeds))}"] if seeds else [])]
    request = StudyRequest(str(file), each_once(words), tiny, jobs, only, gather, seed, against)
    if arm:
        with fast_imports():
            from unify.study.run_job import run_arm

        return run_arm(request, arm, seed, say, untimed)
    if choose:
        return _choose(request)
    return _dry_run(request) if dry_run else _run(request, as_json)


def _check_options(of_one_arm: object, of_a_report: object, both: object) -> None:
    """ValueError for options whose command is another one, where these are true."""
    if both:
        raise ValueError(ONE_OR_SOME)
    if of_one_arm:
        raise ValueError(FOR_ONE_ARM)
    if of_a_report:
        raise ValueError(FOR_THE_REPORT)


def _dry_run(request: Any) -> int:
    """Print the runs of a study as JSON."""
    from unify.study.arms import resolve_arms, resolve_jobs
    from unify.study.jobs import check_seed

    study, arms = resolve_arms(request)
    check_seed(request, study)
    jobs = resolve_jobs(request, study, arms)
    planned = [job for job in jobs if request.seed in (None, job.seed)]
    emit([{"arm": j.arm, "seed": j.seed, "steps": j.config["steps"]} for j in planned])
    return 0


def _choose(request: Any) -> int:
    """Tune the arms by trials that were run; 1 if one could not be."""
    with fast_imports():
        from unify.study.tuning_trials import choose

    untuned = choose(request, say)
    for name, message in untuned.items():
        echo(f"failed: {name}: {message}", err=True)
    return 1 if untuned else 0


def _run(request: Any, as_json: bool) -> int:
    """Run a study and print its outcome; the exit status."""
    with fast_imports():
        from unify.answers.cut_texts import cut_sentences
        from unify.answers.study_records import load_study
        from unify.report.console import print_results
        from unify.study.run_study import run_study

    outcome = run_study(request, lambda text: echo(text, err=as_json))
    if as_json:
        emit(outcome.rows)
    else:
        with warnings.catch_warnings():  # the report has said what is damaged
            warnings.simplefilter("ignore")
            told = load_study(outcome.folder)
            cut = cut_sentences(told)
        print_results(outcome.rows, whole=told.whole)
        for said in cut:
            echo(said)
        echo(f"report:  {outcome.folder / 'report.html'}")
        echo(f"results: {outcome.folder / 'results.json'}")
        echo(f"MLflow:  {outcome.mlflow}")
    for name, message in outcome.failed.items():
        echo(f"failed: {name}: {message}", err=True)
    return 1 if outcome.failed else 0


def report(
    study: Annotated[Path, typer.Argument(help="Study folder, e.g. runs/quickstart.")],
    mlflow: Annotated[str, typer.Option(help="URI: fetch the study from there first.")] = "",
    publish: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write there what others compare their arms with."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --publish: this replicate alone.")
    ] = None,
) -> int:
    """Write a study's report.html again, from its folder or from MLflow.

    With --mlflow, the study's folder is made first from what that server has. With --publish, a
    small folder is written, too: scores and outcomes for `unify study F --against FOLDER`, and
    for `unify pool`.
    """
    if seed is not None and publish is None:
        raise ValueError("--seed names the replicate to --publish; give a folder for it")
    from unify.report.page import write_report

    if mlflow:
        from unify.study.mlflow_study import fetch_study

        fetch_study(mlflow, study.name, study.parent)
    echo(str(write_report(study, trusted_files=not mlflow)))
    if publish is not None:
        from unify.answers.publish import publish as write_folder
        from unify.answers.study_records import load_study

        with warnings.catch_warnings():  # the report has said what is damaged
            warnings.simplefilter("ignore")
            digest = write_folder(load_study(study), publish, seed)
        echo(f"{publish} (hash {digest})")
    return 0


def pool(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of one study, published under unlike seeds.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The study's folder to write.")],
) -> int:
    """Make one study of replicates that were trained at several places, and report it.

    Each place runs replicates of its own of the same study, and publishes each: `unify study F
    --seed 3`, then `unify report runs/F --publish FOLDER --seed 3`.
    """
    from unify.answers.pool import pool as make
    from unify.report.page import write_report

    echo(str(write_report(make(folders, out))))
    return 0


def findings(
    folder: Annotated[Path, typer.Argument(help="Folder of studies, e.g. runs.")],
) -> int:
    """Print the verdict on every claim of all studies, as Markdown."""
    from unify.report.findings import findings as collect

    echo(collect(folder), nl=False)
    return 0
