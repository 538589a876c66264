"""What a study says of texts that were cut: a sentence for each arm whose runs cut any."""

from unify.answers.study_records import StudyRecord
from unify.answers.words import seeds_text
from unify.runs.cut_texts import cut_sentence


def cut_sentences(study: StudyRecord) -> list[str]:
    """`ar_vq: 298 of 320 texts of training did not fit ... and were cut.`, seeds that are alike
    together."""
    alike: dict[tuple[str, str], list[int]] = {}
    for run in study.runs:
        if said := cut_sentence(run.info, run.config):
            alike.setdefault((run.arm, said), []).append(run.seed)
    return [f"{arm}, {seeds_text(seeds)}: {said}." for (arm, said), seeds in alike.items()]
