"""The samplers of a study's runs, where a sweep chose them: what was tried, and what was best."""

from dataclasses import dataclass

from unify.analysis.best_of_trials import nothing_to_choose_by
from unify.answers.run_records import RunRecord
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural, sentence
from unify.runs.sampler_settings import TriedSetting, TriedSettings


@dataclass(frozen=True)
class SweptRun:
    """A run whose sweep has ended."""

    run: RunRecord
    tried: TriedSettings

    @property
    def best(self) -> TriedSetting:
        assert self.tried.best is not None
        return self.tried.settings[self.tried.best]

    @property
    def seconds(self) -> float:
        """What trying all settings took, of which nothing was training."""
        return sum(setting.seconds for setting in self.tried.settings)

    @property
    def why_untold(self) -> str:
        """Why the settings leave nothing to choose by; empty where one is the best."""
        scores = [setting.score for setting in self.tried.settings]
        return nothing_to_choose_by(scores, self.tried.better)


def swept_runs(study: StudyRecord) -> list[SweptRun]:
    """The runs whose samplers were chosen; none for a study that asks for no sweep."""
    if not study.info.get("sweep"):
        return []
    found = [(run, run.tried_settings) for run in study.own_runs]
    return [SweptRun(run, tried) for run, tried in found if tried and tried.best is not None]


def settings_tried(study: StudyRecord, arm: str) -> int:
    """How many settings the samplers of an arm were chosen from; 0 without a sweep."""
    if study.is_published(arm):
        return study.info["arms"][arm].get("settings") or 0
    return max((len(o.tried.settings) for o in swept_runs(study) if o.run.arm == arm), default=0)


def sweep_sentence(study: StudyRecord) -> str:
    """How samplers were set, for the page's account; empty where there was no sweep."""
    swept = swept_runs(study)
    if not swept:
        return ""
    counts = sorted({len(one.tried.settings) for one in swept})
    tried = "–".join(f"{n}" for n in dict.fromkeys([counts[0], counts[-1]]))
    metrics = sentence(list(dict.fromkeys(one.tried.metric for one in swept)))
    return (
        f"Samplers: of each run the best of {tried} settings by {metrics} on validation prompts, "
        f"scored on its weights (nothing was trained; charged to no budget)."
    )


def untold_sweeps(study: StudyRecord) -> list[str]:
    """A sentence for each reason why settings could not be told apart, with the runs."""
    whose: dict[str, list[str]] = {}
    for one in swept_runs(study):
        if one.why_untold:
            whose.setdefault(one.why_untold, []).append(f"{one.run.arm} seed {one.run.seed}")
    return [
        f"The settings of {plural(len(runs), 'run')} cannot be told apart ({why}), so nothing "
        f"chose them: {sentence(runs)}."
        for why, runs in whose.items()
    ]
