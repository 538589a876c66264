"""The answer in at most MOST_WORDS words: the order by each primary outcome, then what to doubt."""

from collections.abc import Iterator

from unify.analysis.paired_differences import FEWEST_SEEDS
from unify.answers.learned import learning_doubt
from unify.answers.not_matched import unequal_ceilings
from unify.answers.preset_words import preset_text
from unify.answers.ranking import ranking
from unify.answers.sampler_sweeps import swept_runs
from unify.answers.score_lines import CONFIRMATORY_SEEDS, Line
from unify.answers.study_answers import Answers
from unify.answers.words import number, plural, sentence

MOST_WORDS = 60
MOST_OUTCOMES = 3


def answer_block(answers: Answers) -> list[str]:
    """Sentences; what would make it longer than MOST_WORDS is left to the page below."""
    sentences: list[str] = []
    for each in (*_outcomes(answers), *_doubts(answers)):
        if sum(len(text.split()) for text in (*sentences, each)) <= MOST_WORDS:
            sentences.append(each)
    return sentences


def _outcomes(answers: Answers) -> Iterator[str]:
    """A sentence for each primary outcome."""
    study = answers.study
    if not answers.lines:
        yield "No scores yet."
    elif not study.primary:
        yield "No primary outcome was named before the run, so nothing has a verdict."
    for metric in study.primary[:MOST_OUTCOMES]:
        lines = [line for line in answers.lines if line.metric == metric]
        if not lines:
            yield f"{metric}: not measured."
        for line in lines[:1]:
            yield f"{metric}: {_outcome(answers, line)}."


def _outcome(answers: Answers, line: Line) -> str:
    compared = [one for one in answers.primary if one.line is line]
    ranked = ranking(line, compared)
    if ranked is None:
        return "states no direction"
    if len(answers.study.seeds) > 1 and ranked.tried:
        return ranked.text
    values = {
        arm: cell.value
        for arm, cell in line.cells.items()
        if cell.value is not None and arm not in answers.study.control_arms
    }
    if not values:
        return "no value"
    value = (max if line.better == "higher" else min)(values.values())
    best = [arm for arm in values if values[arm] == value]
    if len(best) == len(values):
        whose = f"{best[0]} has" if len(best) == 1 else "all scored arms have"
        return f"{whose} the mean {number(value)}, without a verdict"
    verb = "has" if len(best) == 1 else "have"
    return f"{sentence(best)} {verb} the best mean, {number(value)}, without a verdict"


def _doubts(answers: Answers) -> Iterator[str]:
    """What a reader must know first, the weightiest before the others."""
    study = answers.study
    fewest, _ = study.seeds_done
    if study.preset:
        yield preset_text(study)
    elif 0 < fewest < CONFIRMATORY_SEEDS:
        few = plural(fewest, "seed")
        exploratory = "no difference can be told" if fewest < FEWEST_SEEDS else "exploratory"
        yield f"{few} an arm: {exploratory}."
    failed = sum(control.came_out is False for control in answers.controls)
    if failed:
        yield f"{failed} of {plural(len(answers.controls), 'control')} did not come out."
    if late := learning_doubt(study, answers.lines):
        yield late
    if study.refused:
        yield f"{plural(len(study.refused), 'file')} of scores not used."
    if unequal_ceilings(study):
        yield "Tokenizers' ceilings differ."
    if not study.info.get("tune"):
        whose = "own arm" if study.published else "arm"
        yield f"No {whose} was tuned{', only its sampler' if swept_runs(study) else ''}."
    if any("{" in text for text in _outcomes(answers)):
        yield "Braces: not told apart at this budget."
