"""All commands in one app. Heavy imports are inside commands, so that `--help` answers at once."""

from collections.abc import Callable

import typer

from unify.commands import cluster, demo, experiments, machine, plan, runs, study, training
from unify.commands.arguments import EachOptionOnce
from unify.commands.data import data_app

app = typer.Typer(
    help="Controlled comparison of the ways to unify multimodal understanding and generation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes half a second to import, for the looks of --help alone
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
COMMANDS: dict[str, Callable[..., int | None]] = {  # in the order of `unify --help`
    "demo": demo.demo,
    "train": training.train,
    "study": study.study,
    "check": training.check,
    "experiments": experiments.experiments,
    "paradigms": experiments.paradigms,
    "report": study.report,
    "pool": study.pool,
    "findings": study.findings,
    "bench": machine.bench,
    "doctor": machine.doctor,
    "eval": runs.evaluate,
    "sample": runs.sample,
    "export": runs.export,
    "sync": runs.sync,
    "plan": plan.plan,
    "submit": cluster.submit,
    "status": cluster.status,
    "cancel": cluster.cancel,
}
for name, command in COMMANDS.items():
    app.command(name, cls=EachOptionOnce)(command)
