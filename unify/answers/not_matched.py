"""Everything that differs between the arms of a study besides the paradigm."""

import json
from collections.abc import Mapping
from typing import Any

from unify.answers.budget import budget, progress
from unify.answers.published_words import unlike_published
from unify.answers.run_records import RunRecord
from unify.answers.same_data import same_data
from unify.answers.score_lines import CEILING, MANY, VERSION, score_lines
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, seeds_text, sentence
from unify.support.portable import portable

NAMED = 8  # settings that one sentence names
# keys of a configuration that do not say what is trained
OUTSIDE = ("name", "study", "machine", "seeds", "needed_seeds", "tiny", "logging", "evaluation")


def not_matched(study: StudyRecord) -> list[str]:
    """Everything known to differ between the arms besides the paradigm, one sentence each."""
    sentences = [q.sentence() for q in budget(study) if q.matched is False]
    sentences += [*_data_sentences(study), *_part_sentences(study), *unequal_ceilings(study)]
    settings = [key for key, _ in config_differences(study) if not key.startswith("model.")]
    if settings:
        more = [f"{len(settings) - NAMED} more"] if len(settings) > NAMED else []
        sentences.append(f"Settings outside the model: {sentence(settings[:NAMED] + more)}.")
    sentences += [*_precision_sentences(study), *_version_sentences(study)]
    sentences += unlike_published(study)
    for run in study.runs:
        if not run.finished:
            sentences.append(f"{run.arm}, seed {run.seed}, did not finish: {progress(run)}.")
    ran = {(run.arm, run.seed) for run in study.runs}
    missing = {a: [s for s in study.seeds if (a, s) not in ran] for a in study.own_arms}
    absent = [f"{a} ({seeds_text(seeds)})" for a, seeds in missing.items() if seeds]
    return sentences + ([f"No run: {sentence(absent)}."] if absent else [])


def _data_sentences(study: StudyRecord) -> list[str]:
    """A sentence for all pairs whose data differ in one way; one for all where ways are many."""
    pairs = same_data(study)
    alike: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        if pair.kind != "identical":
            arms = alike.setdefault((seeds_text(pair.seeds), pair.text), [])
            arms.append(f"{pair.first} – {pair.second}")
    if len(alike) > MANY:
        others = sum(map(len, alike.values()))
        return [f"Data of {others} of the {len(pairs)} pairs that are compared (see above)."]
    named = {
        key: sentence(arms) if len(arms) <= MANY else f"{len(arms)} pairs"
        for key, arms in alike.items()
    }
    return [f"Data of {names} ({seeds}): {text}." for (seeds, text), names in named.items()]


def _part_sentences(study: StudyRecord) -> list[str]:
    """A sentence where the arms started from unlike runs (tokenizers and others)."""
    parts: dict[str, dict[str, set[str]]] = {arm: {} for arm in study.arms}  # arm, name: hashes
    by_seed: dict[int, set[frozenset[tuple[str, str]]]] = {}
    for run in study.runs:
        by_seed.setdefault(run.seed, set()).add(
            frozenset((part["name"], part["hash"]) for part in run.needed)
        )
        for part in run.needed:
            parts[run.arm].setdefault(part["name"], set()).add(part["hash"])
    if all(len(unlike) <= 1 for unlike in by_seed.values()):
        return []
    each = ", ".join(f"{arm} {sentence(_named(of_arm)) or 'none'}" for arm, of_arm in parts.items())
    return [f"Tokenizers and other runs needed: {each}."]


def _named(parts: Mapping[str, set[str]]) -> list[str]:
    """`shapes_vq 1a2b3c`, or `shapes_vq (8 trainings)` where seeds have their own."""
    return [
        f"{name} {min(hashes)[:6]}" if len(hashes) == 1 else f"{name} ({len(hashes)} trainings)"
        for name, hashes in sorted(parts.items())
    ]


def _precision_sentences(study: StudyRecord) -> list[str]:
    """A sentence where the runs were trained in more than one precision."""
    arms: dict[str, list[str]] = {}
    for run in study.runs:
        if trained := run.info.get("precision"):
            arms.setdefault(trained, []).append(f"{run.arm} s{run.seed}")
    each = [f"{trained} ({sentence(runs)})" for trained, runs in arms.items()]
    return [f"Precision of training: {'; '.join(each)}."] if len(each) > 1 else []


def _version_sentences(study: StudyRecord) -> list[str]:
    """A sentence where scores were measured by more than one version of unify."""
    arms: dict[str, dict[str, None]] = {}
    for row in study.rows:
        if version := (row.get("passport") or {}).get(VERSION):
            arms.setdefault(str(version), {})[row["arm"]] = None
    each = [f"{version} ({sentence(list(some))})" for version, some in arms.items()]
    return [f"Version of unify that scored: {'; '.join(each)}."] if len(each) > 1 else []


def unequal_ceilings(study: StudyRecord) -> list[str]:
    """A sentence for each primary outcome whose ceiling is not the same for all arms."""
    sentences = []
    for line in score_lines(study.rows, study.seeds_have_parts):
        score = line.metric.removesuffix(f"/{CEILING}")
        if score == line.metric or score not in study.primary:
            continue
        values = {a: c.value for a, c in line.cells.items() if c.value is not None}
        if len({number(v) for v in values.values()}) > 1:
            each = ", ".join(f"{a} {number(v)}" for a, v in values.items())
            sentences.append(f"Ceiling of {score}, what the tokenizers give back: {each}.")
    return sentences


def config_differences(study: StudyRecord) -> list[tuple[str, dict[str, str]]]:
    """Settings whose value is not the same in all arms: (dotted key, value by arm).

    Beside published arms, whose paths were cut to their last names, so are those of the others.
    """
    first = {a: runs[0].config for a in study.arms if (runs := study.runs_of(a))}
    flat = {a: _flat(portable(c) if study.published else c) for a, c in first.items()}
    keys = dict.fromkeys(key for each in flat.values() for key in each)
    rows = [(key, {arm: each.get(key, "not set") for arm, each in flat.items()}) for key in keys]
    return [
        (key, values)
        for key, values in rows
        if key.split(".")[0] not in OUTSIDE and len(set(values.values())) > 1
    ]


def _flat(config: Any, prefix: str = "") -> dict[str, str]:
    """{dotted key: value as text}."""
    if isinstance(config, Mapping) and config:
        flat: dict[str, str] = {}
        for key, value in config.items():
            flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    if isinstance(config, list) and all(isinstance(item, str) for item in config):
        return {prefix: " ".join(config) or "none"}
    return {prefix: config if isinstance(config, str) else json.dumps(config, default=str)}


def environments(study: StudyRecord) -> list[tuple[str, list[tuple[str, list[RunRecord]]]]]:
    """(key of the environment, [(value, own runs that had it)]) of every key."""
    flat = [(run, _flat(run.environment)) for run in study.own_runs if run.environment]
    keys = dict.fromkeys(key for _, each in flat for key in each)
    values = []
    for key in keys:
        by_value: dict[str, list[RunRecord]] = {}
        for run, each in flat:
            by_value.setdefault(each.get(key, "not stated"), []).append(run)
        values.append((key, list(by_value.items())))
    return values
