"""The answer in at most MOST_WORDS words: the order by each primary outcome, then what to doubt."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from unify.analysis.paired_differences import FEWEST_SEEDS
from unify.answers.learned import late_arms
from unify.answers.not_matched import unequal_ceilings
from unify.answers.preset_words import preset_text
from unify.answers.ranking import Ranking, ranking
from unify.answers.sampler_sweeps import swept_runs
from unify.answers.score_lines import CONFIRMATORY_SEEDS, Line
from unify.answers.study_answers import Answers
from unify.answers.words import number, plural, sentence

MOST_WORDS = 60
MOST_OUTCOMES = 3
MOST_LATE = 4  # arms that are named
GROUP = re.compile(r"\{[^{}]+, [^{}]+\}")  # arms that are not told apart (ranking.py)


class Said(NamedTuple):
    """A sentence, and what stands for it where it is too long."""

    text: str
    short: str = ""


def answer_block(answers: Answers) -> list[str]:
    """Sentences of at most MOST_WORDS words; the rest is left to the page below.

    What turns an answer round (a control that failed, an arm that has not learned) has its place
    before the outcomes get theirs, and no outcome leaves another one without a word.
    """
    needed, outcomes = list(_needed(answers)), list(_outcomes(answers))
    fitted = _fitted(outcomes, MOST_WORDS - sum(map(_words, needed)))
    sentences = [*fitted, *needed]
    for each in _doubts(answers, braces=any(GROUP.search(text) for text in fitted)):
        if sum(map(_words, (*sentences, each))) <= MOST_WORDS:
            sentences.append(each)
    return sentences


def _words(text: str) -> int:
    return len(text.split())


def _fitted(said: Sequence[Said], room: int) -> list[str]:
    """Each in full where the short forms of those after it still fit into so many words."""
    kept: list[str] = []
    for place, one in enumerate(said):
        left = room - sum(map(_words, kept))
        later = sum(_words(other.short or other.text) for other in said[place + 1 :])
        fits = [text for text in one if text and _words(text) <= left - later]
        fits = fits or [text for text in one if text and _words(text) <= left]
        kept += fits[:1]
    return kept


def _outcomes(answers: Answers) -> Iterator[Said]:
    """A sentence for each primary outcome."""
    study = answers.study
    if not answers.lines:
        yield Said("No scores yet.")
    elif not study.primary:
        yield Said("No primary outcome was named before the run, so nothing has a verdict.")
    for metric in study.primary[:MOST_OUTCOMES]:
        lines = [line for line in answers.lines if line.metric == metric]
        if not lines:
            yield Said(f"{metric}: not measured.")
        for line in lines[:1]:
            ranked = ranking(line, [one for one in answers.primary if one.line is line])
            text, short = _outcome(answers, line, ranked), "no verdict"
            if ranked is not None and ranked.tried:
                short = f"{len(ranked.apart)} of {plural(ranked.tried, 'pair')} told apart"
            yield Said(f"{metric}: {text}.", f"{metric}: {short}.")


def _outcome(answers: Answers, line: Line, ranked: Ranking | None) -> str:
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


def _needed(answers: Answers) -> Iterator[str]:
    """What may turn the answer round."""
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
    if late := late_arms(study, answers.lines):
        named = Said(sentence(late), plural(len(late), "arm"))
        (who,) = _fitted([named], 2 * MOST_LATE)
        yield f"Not learned yet: {who}."
    if (more := len(study.primary) - MOST_OUTCOMES) > 0:
        yield f"{plural(more, 'more outcome')} below."


def _doubts(answers: Answers, braces: bool) -> Iterator[str]:
    """What else a reader should know, the weightiest before the others."""
    study = answers.study
    if study.refused:
        yield f"{plural(len(study.refused), 'file')} of scores not used."
    if unequal_ceilings(study):
        yield "Tokenizers' ceilings differ."
    if not study.info.get("tune"):
        whose = "own arm" if study.published else "arm"
        yield f"No {whose} was tuned{', only its sampler' if swept_runs(study) else ''}."
    if braces:
        yield "Braces: not told apart at this budget."
