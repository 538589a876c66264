"""The plan of a study as `unify plan` prints it: a table, or plain data for JSON."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from unify.answers.words import TOLERANCE, si
from unify.costs.step_cost import Cost
from unify.costs.step_time import mean_train_seconds
from unify.runs.folder import Run
from unify.schema.study import QUANTITIES, Study
from unify.study.needed_runs import NeededRun
from unify.study.plan import Plan
from unify.study.tuning import trained_by_trials


def tuning_flops(study: Study, cost: Cost) -> float:
    """FLOPs of all tuning trials of an arm, at the share of its steps that each has."""
    assert study.tune is not None
    times = len(study.seeds) if study.whole else 1  # trials are for all seeds, or for each
    steps = max(1, round(cost.steps * study.tune.share))
    return times * study.tune.trials * steps * cost.training


def as_data(planned: Plan) -> dict[str, Any]:
    """Plain data: totals of every arm, by task and stage, and the state of the run of each seed."""
    return {
        "study": planned.study.name,
        "budget": planned.study.budget and vars(planned.study.budget),
        "budgets": {arm: vars(budget) for arm, budget in planned.study.budgets.items()},
        "arms": {
            arm: {
                **_totals(c),
                "runs": planned.states(arm),
                "seconds_left": planned.left(arm),
                "settings_tried": planned.swept.get(arm, 0),
            }
            for arm, c in planned.costs.items()
        },
        "spread": {name: planned.spread(name) for name in QUANTITIES},
        "replicate": planned.study.replicate,
        "needed_runs": needed_data(planned),
        "trunks": [
            {
                "name": config["name"],
                "seeds": config["seeds"],
                "steps": config["steps"],
                "checkpoints": config["logging"]["keep_steps"],
                "state": run.info["state"] if run else "missing",
            }
            for config, run in planned.trunks
        ],
    }


def needed_data(planned: Plan) -> list[dict[str, Any]]:
    """The runs that the arms start from, in the order to train them, and for whom each is."""
    return [
        {
            "name": needed.config["name"],
            "file": needed.path,
            "seeds": needed.config["seeds"],
            "state": run.info["state"] if run else "missing",
            "seconds_left": _seconds_left(planned, needed, run),
            "for": [{"arm": arm, "seed": seed} for arm, seed in needed.users],
        }
        for needed, run in planned.needed
    ]


def _seconds_left(planned: Plan, needed: NeededRun, run: Run | None) -> float | None:
    """Seconds to train a needed run, as the same experiment took under other seeds; None where none
    of them is there to tell."""
    if run is not None and run.finished:
        return 0.0
    alike = [r for other, r in planned.needed if r and other.path == needed.path]
    return mean_train_seconds(alike)


def _totals(cost: Cost) -> dict[str, Any]:
    """Totals of a whole run; FLOPs unless a key says samples, tokens or parameters."""
    n = cost.steps
    return {
        "steps": n,
        "samples": n * cost.rows,
        "tokens": n * cost.tokens,
        "parameters": cost.parameters["total"],
        "trainable": cost.parameters["trainable"],
        "flops": {
            "training": n * cost.training,
            "computed": n * cost.computed,
            "useful": None if cost.useful is None else n * cost.useful,
            "encoding": n * cost.encoding,
            "trained before": cost.before,
            "in all": n * (cost.training + cost.encoding) + cost.before,
        },
        "tasks": {
            task: {
                "samples": n * each.rows,
                "tokens": n * each.tokens,
                "training": n * each.training,
                "encoding": n * each.encoding,
            }
            for task, each in cost.tasks.items()
        },
        "needed": {
            name: run.steps * (run.training + run.encoding) for name, run in cost.needed.items()
        },
    }


# keys of `flops` in `as_data` -> the label of their row
LEDGER = {
    "training": "FLOPs, training",
    "computed": "  as dense attention computes",
    "useful": "  on what is no padding",
    "encoding": "FLOPs, encoding",
    "trained before": "FLOPs, trained before",
    "in all": "FLOPs, in all",
}


def lines(planned: Plan) -> list[str]:
    """The table, a column for each arm; then the quantities that match, and the time left."""
    entries = as_data(planned)["arms"]
    rows = [["", *entries]]
    for name in ("steps", "samples", "tokens"):
        rows.append([name, *(f"{e[name]:,}" for e in entries.values())])
    for name, label in LEDGER.items():
        each = [e["flops"][name] for e in entries.values()]
        rows.append([label, *("n/a" if value is None else si(value) for value in each)])
    for task in dict.fromkeys(task for e in entries.values() for task in e["tasks"]):
        each = [e["tasks"].get(task) for e in entries.values()]
        shown = [f"{e['samples']:,} / {si(e['training'])}" if e else "n/a" for e in each]
        rows.append([f"  {task}, samples / FLOPs", *shown])
    for name in dict.fromkeys(name for e in entries.values() for name in e["needed"]):
        each = [e["needed"].get(name) for e in entries.values()]
        rows.append([f"  {name}, FLOPs", *("n/a" if e is None else si(e) for e in each)])
    for name in ("parameters", "trainable"):
        rows.append([name, *(si(e[name]) for e in entries.values())])
    if planned.study.tune:
        study, tuned = planned.study, trained_by_trials(planned.study, planned.arms)
        each = [
            si(tuning_flops(study, c)) if a in tuned else "n/a" for a, c in planned.costs.items()
        ]
        rows.append(["FLOPs, tuning", *each])
    if planned.swept:
        rows.append(["sampler settings tried", *(f"{planned.swept.get(a, 0)}" for a in entries)])
    rows.append(["runs", *(_summed(e["runs"]) for e in entries.values())])
    left = "time left, after tuning" if planned.study.tune else "time left"
    rows.append([left, *(_clock(e["seconds_left"]) for e in entries.values())])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    columns = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    alone = len(planned.arms) == 1 or planned.study.budgets
    matching = [] if alone else _matching(planned)
    left_over = [_all_left(entries.values()), *trunk_lines(planned), *needed_lines(planned)]
    return [*columns, *matching, *left_over]


def trunk_lines(planned: Plan) -> list[str]:
    """The runs at a constant rate from which cool-downs go on, each trained once."""
    if not planned.trunks:
        return []
    steps = sum(config["steps"] for config, run in planned.trunks if not (run and run.finished))
    starts = {
        arm: (config["cooldown"] or {}).get("start", 0) for arm, config in planned.arms.items()
    }
    alone = sum(len(planned.runs[arm]) * start for arm, start in starts.items())
    missing = sum(run is None for _, run in planned.trunks)
    return [
        f"trunks missing: {missing} of {len(planned.trunks)}, {steps:,} steps, from which the runs "
        f"take over {alone:,} (they count them as their own)"
    ]


def needed_lines(planned: Plan) -> list[str]:
    """What is trained before the runs: once for all seeds, or under each of them."""
    if not planned.needed:
        return []
    each: dict[str, dict[str, int]] = {}
    for one in needed_data(planned):
        states = each.setdefault(one["name"], {})
        states[one["state"]] = states.get(one["state"], 0) + 1
    named = [f"{name} {', '.join(f'{n} {s}' for s, n in of.items())}" for name, of in each.items()]
    missing = sum(states.get("missing", 0) for states in each.values())
    whole = planned.study.whole
    how = "each seed has its own" if whole else "all seeds of an arm share them"
    return [f"needed runs missing: {missing}; {how}: {'; '.join(named)}"]


def _all_left(entries: Collection[dict[str, Any]]) -> str:
    """The number of runs to train, and the time they take one after another."""
    left = [e["seconds_left"] for e in entries]
    runs = sum(list(e["runs"].values()).count("missing") for e in entries)
    estimated = [seconds for seconds in left if seconds is not None]
    if len(estimated) < len(left):
        return f"runs missing: {runs}; --measure says how long they take on this machine"
    return f"runs missing: {runs}; {_clock(sum(estimated))} of training, one after another"


def _summed(states: dict[int, str]) -> str:
    """Counts of states, as `3 finished, 5 missing`."""
    kinds = list(states.values())
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _clock(seconds: float | None) -> str:
    """`1:02:03`, or `unknown`."""
    return "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))


def _matching(planned: Plan) -> list[str]:
    """A line for each quantity: the spread over arms, and whether that counts as matched."""
    task = planned.study.budget.task if planned.study.budget else ""
    out = [f"of {task} alone:"] if task else []
    for name in QUANTITIES:
        spread = planned.spread(name)
        verdict = "matched, within" if spread <= TOLERANCE else "not matched, they differ by"
        out.append(f"{name}: {verdict} {spread:.1%}")
    return out
