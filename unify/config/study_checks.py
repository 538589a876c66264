"""Checks of a study that take its arms: their names, its outcomes, its budgets and its seeds."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from unify.config.annotations import locate_class
from unify.config.yaml_tree import Node, Problem, join, suggest
from unify.data.source import TASKS
from unify.schema.completed import Config
from unify.support.file_names import same_folder, wrong_name
from unify.support.ranges import MOST_WHOLE

CHOOSING = ("tune", "sweep")  # keys of a study under which settings are chosen by outcomes
TRIALS = "-tuning"  # ends the name of the folder of a study's trials (study/tuning_trials.py)
CEILING = "/ceiling"  # ends the name of what stands beside a score (metrics/ceiling.py)


def wrong_arms(arms: Mapping[str, Node]) -> list[Problem]:
    """A problem for each arm whose name cannot be that of a folder."""
    return [
        node.problem(f"arms.{name!a}" if message.isprintable() else "arms", message)
        for name, node in arms.items()
        if (message := wrong_name(name))
    ]


def names_of_trials(study: Config, names: Sequence[str], root: Node) -> list[Problem]:
    """A problem for each name that is too long once the trials of its tuning are named by it, and
    for a study whose folder would be that of another one's trials."""
    if study["name"].casefold().endswith(TRIALS):
        message = (
            f"{study['name']!a} ends with {TRIALS!r}, as the folder of a study's trials does; "
            "give it another name"
        )
        return [root.value["name"].problem("name", message)]
    if not study["tune"]:
        return []
    trials = study["tune"]["trials"]
    asked = {"name": f"{study['name']}{TRIALS}"}
    asked |= {f"arms.{name}": f"{name},trial={trials}" for name in names}
    return [
        root.value[key.partition(".")[0]].problem(key, message)
        for key, name in asked.items()
        if (message := wrong_name(name))
    ]


def same_arms(names: Sequence[str], node: Node) -> list[Problem]:
    """A problem if two arms, those of a grid too, would have one folder."""
    pair = same_folder(names)
    if pair is None:
        return []
    what = f"{pair[0]!a} and {pair[1]!a}" if pair[0] != pair[1] else f"two times {pair[0]!a}"
    message = f"{what}: one folder on some file systems; give each arm a name of its own"
    return [node.problem("arms", message)]


def commas(study: Config, root: Node) -> list[Problem]:
    """A problem for each arm with a comma where that parts an arm from its point of the grid."""
    for key in ("grid", "cooldowns", "tune"):
        if study[key] and (key != "tune" or study["tune"]["defaults"]):
            return [
                root.value["arms"].problem(
                    f"arms.{name}",
                    f"{name!a} has a comma, which with `{key}` begins what is added to an arm's "
                    "name; write another sign",
                )
                for name in study["arms"]
                if "," in name
            ]
    return []


def unmeasured(root: Node, study: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """A problem for each outcome that the study names and no arm's evaluation gives."""
    patterns = sorted({p for config in arms.values() for p in _measured(config)})
    return [
        node.problem(
            key,
            f"no arm measures {name!r}{suggest(name, patterns)}; their evaluation gives "
            f"{', '.join(patterns) or 'nothing'}",
        )
        for key, node, name in _outcomes(root.value, study)
        if not any(gives(pattern, name) for pattern in patterns)
    ]


def measured_twice(root: Node, study: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """A problem for each outcome that chooses settings and that two metrics of an arm give: which
    of them chooses is not said."""
    problems = []
    for key, node, name in _outcomes(root.value, study):
        if not key.startswith(CHOOSING):
            continue
        for arm, config in arms.items():
            if len(measuring(config, name)) > 1:
                message = f"{name} is given by two metrics of {arm}: keep one in its `evaluation`"
                problems.append(node.problem(key, message))
                break
    return problems


def gives(pattern: str, name: str) -> bool:
    """True if a metric with this pattern gives a score of this name, or the ceiling of one."""
    return fnmatchcase(name.removesuffix(CEILING), pattern)


def _measured(config: Config) -> Iterator[str]:
    """Shell patterns of the names of the scores that an arm gets."""
    for metric in config["evaluation"]:
        yield from scores_of(metric, config)


def measuring(config: Config, name: str) -> list[Config]:
    """The metrics of an arm's evaluation that give a score of this name."""
    return [
        metric
        for metric in config["evaluation"]
        if any(gives(pattern, name) for pattern in scores_of(metric, config))
    ]


def scores_of(metric: Config, config: Config) -> Iterator[str]:
    """Shell patterns of the names of the scores that one metric of an arm gives."""
    model = locate_class(config["model"]["class"], trusted=True)
    tasks = {*config["data"]["tasks"], *_set_of(getattr(model, "answers", ()))}
    return names_of_scores(locate_class(metric["class"], trusted=True), tasks)


def names_of_scores(metric: Any, tasks: set[str]) -> Iterator[str]:
    """Shell patterns of the names of a metric's scores, of a run that learns or answers `tasks`."""
    shared = tasks & _set_of(getattr(metric, "tasks", tasks))
    for pattern in metric.measures if shared else ():
        task, slash, rest = pattern.partition("/")
        if task == "*" and slash:
            yield from (f"{each}/{rest}" for each in shared)
        elif task not in TASKS or task in tasks:
            yield pattern


def _set_of(names: Any) -> set[str]:
    return set(names) if isinstance(names, Collection) else set()


def _outcomes(nodes: Mapping[str, Node], study: Config) -> Iterator[tuple[str, Node, str]]:
    """(key, node, metric) for each place of a study that names a metric."""
    in_families = {one["metric"] for family in study["families"].values() for one in family}
    for index, name in enumerate(study["primary"]):
        if name not in in_families:  # the preset may have taken the others from there
            yield f"primary.{index}", nodes["primary"].value[index], name
    for name, family in study["families"].items():
        for index, one in enumerate(family):
            node = nodes["families"].value[name].value[index].value["metric"]
            yield f"families.{name}.{index}.metric", node, one["metric"]
    for key in ("claims", "controls"):
        for index, item in enumerate(study[key]):
            if item["metric"]:
                node = nodes[key].value[index].value["metric"]
                yield f"{key}.{index}.metric", node, item["metric"]
    for key in CHOOSING:
        if not study[key]:
            continue
        node, names = nodes[key].value["metric"], study[key]["metric"]
        if isinstance(names, str):
            yield f"{key}.metric", node, names
        else:
            for index, name in enumerate(names):
                yield f"{key}.metric.{index}", node.value[index], name


def small_budgets(root: Node, study: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """A problem for each budget that is less than one step of an arm, whatever its model costs, and
    for each of a task that the arm has no rows of.

    A step has the rows of `data.tasks`, and a row one token and one FLOP at least. The exact count
    is costs/step_cost.py's, which builds the model.
    """
    problems = []
    for name, config in arms.items():
        own = study["budgets"].get(name)
        budget = own or study["budget"]
        if not budget or budget["steps"]:
            continue
        key = "budgets" if own else "budget"
        node = root.get(key) or root.get("grid") or root
        rows, task = config["data"]["tasks"], budget["task"]
        if task and task not in rows:
            message = f"{name} has no rows of {task!a}{suggest(task, rows)}; it has"
            problems.append(node.problem(f"{key}.task", f"{message} {', '.join(rows)}"))
            continue
        least = rows[task] if task else sum(rows.values())
        amount = max(budget[quantity] for quantity in ("samples", "tokens", "flops"))
        if amount and round(amount / least) < 1:
            message = f"{amount:g} does not reach for one step of {name}, which has {least} rows"
            problems.append(node.problem(key, f"{message}; raise it"))
    return problems


def large_seeds(root: Node, study: Config, arms: Mapping[str, Config]) -> list[Problem]:
    """A problem for each seed that, added to those of an arm, no longer fits into 64 bits."""
    most = {name: max(config["seeds"].values()) for name, config in arms.items()}
    if study["tune"] and study["replicate"] == "all":  # trials add their own number to both
        most = {name: largest + study["tune"]["seed"] for name, largest in most.items()}
    node = root.get("seeds")
    return [
        node.value[index].problem(
            join("seeds", index), f"{seed} and the seeds of {name} exceed 64 bits; take a smaller"
        )
        for name, largest in most.items()
        for index, seed in enumerate(study["seeds"])
        if node is not None and seed + largest > MOST_WHOLE
    ]
