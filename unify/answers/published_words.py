"""Published arms in words: where they are from, and what in them is not the study's own."""

from unify.answers.sampler_sweeps import settings_tried
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural, seeds_text, sentence


def commits_of(study: StudyRecord, arm: str) -> list[str]:
    """The commits by which an arm's runs were trained, shortened; none where not stated."""
    shas = [(run.environment.get("git") or {}).get("sha") for run in study.runs_of(arm)]
    return list(dict.fromkeys(str(sha)[:12] for sha in shas if sha))


def origin(study: StudyRecord, arm: str) -> str:
    """`five_paradigms, by unify 0.1.0, commit 53d5ef1a2b3c`."""
    about = study.info["arms"][arm]["published"]
    commits = commits_of(study, arm)
    by = f", by unify {about.get('unify')}" if about.get("unify") else ""
    return f"{about.get('study')}{by}" + (f", commit {sentence(commits)}" if commits else "")


def published_sentences(study: StudyRecord) -> list[str]:
    """A sentence on what the study is compared with; none without published arms."""
    if study.published is None:
        return []
    by_origin: dict[tuple[str, int], list[str]] = {}
    for arm in study.published_arms:
        key = (origin(study, arm), len(study.seeds_of(arm)))
        by_origin.setdefault(key, []).append(arm)
    each = [
        f"{sentence(arms)} ({plural(seeds, 'seed')} each, of the study {of})"
        for (of, seeds), arms in by_origin.items()
    ]
    return [
        f"Compared with what was published, and not trained or scored again: {'; '.join(each)}."
    ]


def unlike_published(study: StudyRecord) -> list[str]:
    """What differs between own and published arms besides what is listed of all arms."""
    if study.published is None:
        return []
    own = study.own_arms
    seeds = {arm: tuple(study.seeds_of(arm)) for arm in (*own[:1], *study.published_arms)}
    sentences = []
    if len(set(seeds.values())) > 1:
        by_seeds: dict[tuple[int, ...], list[str]] = {}
        for arm in study.arms:
            by_seeds.setdefault(tuple(study.seeds_of(arm)), []).append(arm)
        each = [f"{sentence(arms)} {seeds_text(some)}" for some, arms in by_seeds.items()]
        sentences.append(f"Replicates: {'; '.join(each)}.")
    kinds = {arm: _replicated(study, arm) for arm in study.arms}
    if len(set(kinds.values())) > 1:
        whose = {kind: [arm for arm in study.arms if kinds[arm] == kind] for kind in kinds.values()}
        each = [f"{kind} ({sentence(arms)})" for kind, arms in whose.items()]
        sentences.append(f"What a seed trains anew: {'; '.join(each)}.")
    for what, key in (("Data by their fingerprint", "data"), ("Commit of training", "git")):
        by_value: dict[str, list[str]] = {}
        for arm in study.arms:
            by_value.setdefault(_stated(study, arm, key), []).append(arm)
        if len(by_value) > 1:
            each = [f"{value} ({sentence(arms)})" for value, arms in by_value.items()]
            sentences.append(f"{what}: {'; '.join(each)}.")
    return sentences + _tuning(study)


def _replicated(study: StudyRecord, arm: str) -> str:
    """What each seed of an arm has of its own."""
    of = study.info["arms"][arm]["published"] if study.is_published(arm) else study.info
    return "all that its arm starts from, too" if of.get("replicate") == "all" else "its arm alone"


def _stated(study: StudyRecord, arm: str, key: str) -> str:
    """The commits, or the fingerprints of the data, of an arm's runs."""
    data = [str(run.info["data"]) for run in study.runs_of(arm) if run.info.get("data")]
    values = commits_of(study, arm) if key == "git" else list(dict.fromkeys(data))
    return sentence(values) or "not stated"


def _tuning(study: StudyRecord) -> list[str]:
    """A sentence where arms were tuned by unlike numbers of trials, or samplers of settings."""
    trials = {arm: study.info["arms"][arm].get("trials") or 0 for arm in study.published_arms}
    asked = (study.info.get("tune") or {}).get("trials", 0)
    tuned = study.info.get("tuned") or []
    trials |= {arm: asked if asked and arm in tuned else 0 for arm in study.own_arms}
    by_trials: dict[int, list[str]] = {}
    for arm, count in trials.items():
        by_trials.setdefault(count, []).append(arm)
    each = [f"{plural(count, 'trial')} ({sentence(arms)})" for count, arms in by_trials.items()]
    tuning = [f"Tuning: {'; '.join(each)}."] if len(each) > 1 else []
    by_settings: dict[int, list[str]] = {}
    for arm in study.arms:
        by_settings.setdefault(settings_tried(study, arm), []).append(arm)
    each = [f"{plural(n, 'setting')} ({sentence(arms)})" for n, arms in by_settings.items()]
    return tuning + ([f"Samplers chosen from: {'; '.join(each)}."] if len(each) > 1 else [])
