"""Differences of arms: which is better, and whether the seeds and prompts at hand can tell.

The statistics are those of analysis/paired_differences.py and analysis/multiple_tests.py; what is
compared is chosen by answers/pairing.py.

Primary outcomes are those that the study named before it ran, and only they may get a verdict
(answers/judged.py). All other differences are shown with their intervals.
"""

import json
from collections.abc import Sequence

from unify.analysis.paired_differences import HIGHER, LOWER, SAME
from unify.answers.comparison import Comparison
from unify.answers.judged import EXPLORATORY, judge, pairs_of
from unify.answers.learned import mark_unlearned
from unify.answers.pairing import lines_of_pair, pair
from unify.answers.published_pairs import is_mixed, pair_with_published
from unify.answers.score_lines import MANY, Line
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, plural

NOT_COMPARED = ("tokenizer", "generate")  # ceilings and speed


def comparisons(
    study: StudyRecord, lines: Sequence[Line]
) -> tuple[list[Comparison], list[Comparison]]:
    """Comparisons of the primary outcomes, judged together, and those of all other lines."""
    in_order = dict.fromkeys([*(line.metric for line in lines), *study.primary])
    primary = [
        one
        for metric in in_order
        if metric in study.primary
        for arms in pairs_of(study, metric)
        for one in comparisons_of(study, lines, metric, *arms)
    ]
    judge(study, primary)
    mark_unlearned(study, primary)
    others = [
        comparison(study, line, *arms)
        for line in lines
        if line.metric not in study.primary and not (line.reference or line.task in NOT_COMPARED)
        for arms in study.pairs
        if all(arm in line.cells for arm in arms)
    ]
    return primary, others


def comparisons_of(
    study: StudyRecord, lines: Sequence[Line], metric: str, first: str, second: str
) -> list[Comparison]:
    """`first` - `second` on every line of a metric that has both, or one that says why none has."""
    both, reason = lines_of_pair(study, lines, metric, first, second)
    if not both:
        return [Comparison(None, first, second, None, asked=metric, reason=reason)]
    return [comparison(study, line, first, second) for line in both]


def comparison(study: StudyRecord, line: Line, first: str, second: str) -> Comparison:
    """`first` - `second` on one line, on which both stand."""
    by = pair_with_published if is_mixed(study, first, second) else pair
    made = by(study, line, first, second)
    single = next((arm for arm in (first, second) if is_single(study, line, arm)), "")
    return Comparison(
        line, first, second, made.difference, single=single if made.difference else "",
        reason=made.reason, notes=made.notes, seeds=made.seeds, improvement=made.improvement,
    )  # fmt: skip


def is_single(study: StudyRecord, line: Line, arm: str) -> bool:
    """True if an arm that was not trained on the task answered alike under all its seeds.

    It then answers with a frozen part that its seeds share, which is one sample of how such a part
    turns out. (Not seen where answers are drawn at a temperature, each seed its own.)
    """
    runs = [run for run in study.runs_of(arm) if run.seed in line.cells[arm].rows]
    task = "image" if line.task == "copy" else line.task
    trained = [task in run.config["data"]["tasks"] for run in runs if run.config.get("data")]
    parts = {json.dumps(run.needed, sort_keys=True, default=str) for run in runs}
    values = set(line.cells[arm].values)
    configs_kept = len(trained) == len(runs) > 1
    return configs_kept and not any(trained) and len(parts) == 1 and len(values) == 1


def difference_sentences(study: StudyRecord, primary: Sequence[Comparison]) -> list[str]:
    """The answer to each primary outcome, for the page's first paragraph."""
    sentences: list[str] = []
    if study.preset == EXPLORATORY:
        return sentences
    for metric in dict.fromkeys(one.metric for one in primary):
        of_metric = [one for one in primary if one.metric == metric]
        if len(study.seeds) == 1 or all(one.difference is None for one in of_metric):
            continue  # that scores are missing, or of one seed, is said elsewhere
        tried = [one for one in of_metric if one.verdict]
        clear = [one for one in tried if one.verdict in (HIGHER, LOWER)]
        if len(study.arms) > MANY:
            judged = [one for one in of_metric if not (one.unjudged or one.single)]
            compared = sum(one.difference is not None for one in judged)
            all_of_them = f"{compared} pairs of arms that are compared can be told apart"
            sentences.append(f"{metric}: {len(clear)} of {all_of_them} at this budget.")
            continue
        parts = [f"{one.first} is {one.verdict} than {one.second} by {_size(one)}" for one in clear]
        rest = len(tried) - len(clear)
        if rest:
            pair_of = "named pair" if study.named else "pair"
            who = plural(rest, f"other {pair_of}") if clear else f"no {pair_of} of arms"
            verb = "is" if not clear else "is not" if rest == 1 else "are not"
            parts.append(f"{who} {verb} distinguishable at this budget{uncorrected_note(tried)}")
        lower = any(one.line is not None and one.line.better == "lower" for one in of_metric)
        named = f"{metric} (lower is better)" if lower else metric
        sentences.append(f"{named}: {'; '.join(parts + _untested(of_metric))}.")
    return sentences


def _size(one: Comparison) -> str:
    assert one.difference is not None
    return number(abs(one.difference.mean))


def _untested(of_metric: Sequence[Comparison]) -> list[str]:
    """What has no verdict, and why; arms that answer with one model by name."""
    single = dict.fromkeys(one.single for one in of_metric if one.single)
    parts = [f"{arm} answers with one model under all seeds: no verdict" for arm in single]
    reasons: dict[str, int] = {}
    for one in of_metric:
        if not one.verdict and not one.single:
            reasons[one.untestable] = reasons.get(one.untestable, 0) + 1
    return parts + [f"{plural(count, 'pair')}: {reason}" for reason, count in reasons.items()]


def uncorrected_note(tried: Sequence[Comparison]) -> str:
    """A note on pairs without a verdict whose uncorrected interval leaves out 0."""
    count = 0
    for one in tried:
        low, high = one.interval or (0.0, 0.0)
        count += one.verdict == SAME and not low <= 0 <= high
    return f" (the uncorrected interval of {count} of them leaves out 0)" if count else ""
