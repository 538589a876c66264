"""The page's first paragraph: what was done, what came out, and what cannot be told."""

from unify.analysis.paired_differences import FEWEST_SEEDS
from unify.answers.budget import OF_TASK, SAMPLES, budget
from unify.answers.controls import control_sentences
from unify.answers.cut_texts import cut_sentences
from unify.answers.differences import difference_sentences
from unify.answers.learned import learning_sentences
from unify.answers.preset_words import preset_sentences
from unify.answers.published_words import published_sentences
from unify.answers.same_data import same_data
from unify.answers.sampler_sweeps import sweep_sentence
from unify.answers.score_lines import CONFIRMATORY_SEEDS, MANY
from unify.answers.study_answers import Answers
from unify.answers.study_records import StudyRecord
from unify.answers.words import number, plural, sentence


def summary(answers: Answers) -> str:
    """The whole paragraph; a study of many arms is not spelt out arm by arm."""
    study, lines = answers.study, answers.lines
    own, brief = study.own_arms, len(study.arms) <= MANY
    parts = [
        f"{plural(len(own), 'arm')} ({sentence(own) if brief else _grid(study)}), "
        f"{study.seeds_in_words} each{_whole(study)}."
    ]
    parts += preset_sentences(study)
    parts += published_sentences(study)
    parts += [f"{reason}." for reason in study.refused]
    parts += cut_sentences(study) if brief else []
    parts += _samples(study, brief)
    parts += _data(study)
    parts += _settings(study)
    for line in lines:
        if line.metric in study.primary and not line.note and brief:
            values = [f"{a} {number(c.value)}" for a, c in line.cells.items()]
            parts.append(f"{line.metric}: {', '.join(values)}.")
    parts += [one.sentence for one in answers.growths]
    parts += [one.sentence for one in answers.crossings]
    parts += learning_sentences(study, lines)
    parts += difference_sentences(study, answers.primary)
    parts += control_sentences(answers.controls, bool(lines))
    fewest, _ = study.seeds_done
    if 0 < fewest < CONFIRMATORY_SEEDS and not study.preset:
        few = plural(fewest, "seed")
        parts.append(
            f"Exploratory: {few} per arm cannot tell a difference of arms from chance in training."
            if fewest < FEWEST_SEEDS
            else f"Exploratory: {few} per arm find large differences only."
        )
    return " ".join(parts)


def _settings(study: StudyRecord) -> list[str]:
    """Whether what arms were trained and sampled with was chosen by a score."""
    swept = sweep_sentence(study)
    if study.info.get("tune"):
        return [swept] if swept else []
    whose = "own arm" if study.published else "arm"
    if swept:
        return [f"The training of no {whose} was tuned: its settings are as the study says.", swept]
    return [f"No {whose} was tuned: settings and samplers are as the study says."]


def _whole(study: StudyRecord) -> str:
    """What a seed is, where it is more than the arm's own training."""
    if not study.whole:
        return ""
    tuning = ", tuning" if study.info.get("tune") else ""
    return f", and each seed a pipeline of its own (what the arm starts from{tuning}, training)"


def _samples(study: StudyRecord, brief: bool) -> list[str]:
    """Samples that each arm saw in all, and of each task where the arms' numbers differ."""
    sentences = []
    for quantity in budget(study):
        arms: dict[str, list[str]] = {}
        for arm in quantity.values:
            arms.setdefault(quantity.text(arm), []).append(arm)
        each = [f"{text} ({sentence(equal)})" for text, equal in arms.items()]
        in_all = quantity.name == SAMPLES
        if in_all and len(arms) == 1:
            sentences.append(f"{quantity.name}: {next(iter(arms))} per run.")
        elif in_all or (quantity.name.startswith(OF_TASK) and len(arms) > 1 and brief):
            sentences.append(f"{quantity.name}: {sentence(each) if brief else 'not equal'}.")
    return sentences


def _data(study: StudyRecord) -> list[str]:
    """A sentence on whether compared arms read the same samples of the tasks they share."""
    pairs = same_data(study, controls=False)
    kinds = {pair.kind for pair in pairs} - {"not applicable"}
    if not kinds:
        return []
    if "differs" in kinds:
        return ["Training data: not the same for every pair of arms."]
    if "not known" in kinds:
        return ["Training data: not known to be the same for every pair of arms."]
    far = {"prefix": " as far as the shorter run goes", "partly": " as far as both were logged"}
    until = next((far[kind] for kind in ("partly", "prefix") if kind in kinds), "")
    return [f"Training data: the same samples of every task that two arms share{until}."]


def _grid(study: StudyRecord) -> str:
    """`slow and fast at 9 points of a grid`."""
    arms = dict.fromkeys(arm for arm, _ in study.factors.values())
    points = len(dict.fromkeys(point for _, point in study.factors.values()))
    where = f" at {points} points of a grid" if points > 1 else ""
    return f"{sentence(list(arms))}{where}"
