"""Whether published folders hold replicates of one study, and why not.

Replicates are of one study if all that was asked and set is equal but for what a seed decides: the
study's settings, its arms and theirs, what they read, the precision, and how the primary outcomes
were measured. The place of the file may differ, and a version of unify that measures alike; other
scores that were not measured alike stand in lines of their own, as in any report.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unify.answers.judged import CONFIRMATORY
from unify.answers.score_lines import measured_alike
from unify.answers.words import seeds_text, sentence
from unify.runs.published_folder import AGAIN, PUBLISHED, PublishedFolder
from unify.support.strict_json import Types, damaged, wrong_type

POOLED: Types = {"asked": dict, "tuning": dict, "planned": list}  # keys that older folders lack
OF_PLACE = ("file", "overrides")  # keys of `asked` that are written as each place does
OF_SEED = ("seeds", "needed_seeds", "replicate")  # keys of a configuration that a seed decides
OF_TRAINING = ("data", "source", "precision", "steps")  # facts of runs


def seeds_of(read: PublishedFolder) -> list[int]:
    """The replicates that a folder holds."""
    runs = [facts for arm in read.content["arms"].values() for facts in arm["runs"]]
    return sorted({int(facts["seed"]) for facts in runs})


def check_one_study(folders: Sequence[Path], read: Sequence[PublishedFolder]) -> None:
    """ValueError, with the folders and what differs, unless they are replicates of one study."""
    for folder, each in zip(folders, read, strict=True):
        _check_whole(folder, each)
    _check_seeds(folders, read)
    for folder, other in zip(folders[1:], read[1:], strict=True):
        if unlike := _unlike(read[0].content, other.content):
            raise ValueError(f"{folders[0]} and {folder} are not of one study: {unlike}")


def _check_whole(folder: Path, read: PublishedFolder) -> None:
    """ValueError for a folder that lacks what pooling needs, or names no such seeds."""
    content, path = read.content, folder / PUBLISHED
    if absent := [key for key in POOLED if content.get(key) is None]:
        raise ValueError(
            f"{path} has no {sentence(absent)}: it was published by an older unify; publish it "
            "again with `unify report STUDY --publish`"
        )
    planned = content["planned"]
    wrong = wrong_type(content, POOLED)
    if not wrong and not {type(seed) for seed in planned} <= {int}:
        wrong = f"planned is {planned!r:.60}"
    if not wrong and not set(seeds_of(read)) <= set(planned):
        wrong = f"it has {seeds_text(seeds_of(read))}, and planned {seeds_text(planned)}"
    if wrong:
        raise ValueError(damaged(path, wrong, AGAIN))


def _check_seeds(folders: Sequence[Path], read: Sequence[PublishedFolder]) -> None:
    """ValueError for a replicate that two folders have, by its number or by what it drew."""
    whose: dict[int, Path] = {}
    drew: dict[tuple[str, str], int] = {}
    for folder, each in zip(folders, read, strict=True):
        if both := [seed for seed in seeds_of(each) if seed in whose]:
            raise ValueError(
                f"{whose[both[0]]} and {folder} both have {seeds_text(both)}: a replicate counts "
                "once, so give each place seeds of its own"
            )
        whose |= dict.fromkeys(seeds_of(each), folder)
        for arm, entry in each.content["arms"].items():
            for facts in entry["runs"]:
                own = arm, str(facts.get("seeds") or facts["seed"])
                if (other := drew.setdefault(own, facts["seed"])) != facts["seed"]:
                    raise ValueError(
                        f"{whose[other]} and {folder}: seeds {other} and {facts['seed']} of {arm} "
                        "drew the same, so that they are one replicate; give each seeds of its own"
                    )


def _unlike(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """Why two folders' contents are not of one study; an empty text if they are."""
    a, b = ({k: v for k, v in c["asked"].items() if k not in OF_PLACE} for c in (one, two))
    if differ := _differ(a, b):
        return f"they differ in {differ} of the study"
    if one["arms"].keys() != two["arms"].keys():
        first, second = (sentence(sorted(each["arms"])) for each in (one, two))
        return f"their arms are {first}, and {second}"
    if a.get("preset") == CONFIRMATORY and set(one["planned"]) != set(two["planned"]):
        planned = " and ".join(seeds_text(each["planned"]) for each in (one, two))
        return f"they plan {planned}; run replicates of one plan by `unify study F --seed S`"
    if a.get("tune") and a.get("replicate") != "all":
        return "its trials are shared by all seeds, and each place had its own; use replicate: all"
    free = (a.get("tune") or {}).get("space") or {}
    each = (_arms_differ(arm, one, two, free) for arm in one["arms"])
    return next(filter(None, each), "") or _parts_differ(one, two)


def _arms_differ(
    arm: str, one: Mapping[str, Any], two: Mapping[str, Any], free: Iterable[str]
) -> str:
    """In what an arm differs between two folders; an empty text if in nothing."""
    a, b = one["arms"][arm], two["arms"][arm]
    if differ := _differ(_settings(a["config"], free), _settings(b["config"], free)):
        return f"{arm} differs in {differ}"
    for key in OF_TRAINING:
        facts = [sorted({str(run.get(key)) for run in entry["runs"]}) for entry in (a, b)]
        if facts[0] != facts[1]:
            return f"{arm} was trained with {key} {sentence(facts[0])}, and {sentence(facts[1])}"
    first, second = (_ways(entry, each["passports"]) for entry, each in ((a, one), (b, two)))
    named = [family["metric"] for family in one["asked"].get("families") or []]
    for metric in dict.fromkeys((*one["primary"], *named)):
        if first.get(metric) != second.get(metric):
            return f"{metric} of {arm} was not measured alike (their passports differ)"
    return ""


def _ways(entry: Mapping[str, Any], passports: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """How each score of an arm was measured."""
    ways: dict[str, set[str]] = {}
    for scores in entry["scores"]:
        way = measured_alike(passports[scores["passport"]])
        ways.setdefault(scores["metric"], set()).add(way)
    return ways


def _parts_differ(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """Why what two folders call one needed run is not; an empty text if it is."""
    known: dict[str, str] = {}
    for content in (one, two):
        for entry in content["arms"].values():
            for part in (part for run in entry["runs"] for part in run.get("needed") or []):
                name, digest = str(part.get("folder") or ""), str(part.get("hash"))
                if name and known.setdefault(name, digest) != digest:
                    return (
                        f"each trained {name} for itself, and they differ; use replicate: all, or "
                        "one place's weights"
                    )
    return ""


def _differ(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """The keys whose values differ, in words."""
    keys = sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))
    return sentence(keys[:5])


def _settings(config: Mapping[str, Any], free: Iterable[str]) -> dict[str, Any]:
    """The settings of an arm by dotted key, without those that a seed decides or that are tuned."""
    flat = _flat({key: value for key, value in config.items() if key not in OF_SEED})
    tuned = tuple(free)
    return {
        key: value
        for key, value in flat.items()
        if not any(key == name or key.startswith(f"{name}.") for name in tuned)
    }


def _flat(node: Any, at: str = "") -> dict[str, Any]:
    if isinstance(node, Mapping) and node:
        return {
            key: value
            for name, part in node.items()
            for key, value in _flat(part, f"{at}.{name}" if at else str(name)).items()
        }
    return {at: node}
