"""What the preset of a study says of its verdicts, in words."""

from unify.answers.judged import EXPLORATORY, arms_not_sealed
from unify.answers.study_records import StudyRecord
from unify.answers.words import plural, sentence


def preset_text(study: StudyRecord) -> str:
    """One short sentence, for the answer at the top of the page."""
    seeds = len(study.seeds)
    if study.preset == EXPLORATORY:
        return f"Exploratory: {plural(seeds, 'seed')}, shared tokenizers, no verdicts."
    done, _ = study.seeds_done
    if done < seeds:
        return f"Confirmatory: {done} of {plural(seeds, 'replicate')} done, so no verdict yet."
    if other := arms_not_sealed(study):
        return (
            f"Confirmatory: {plural(len(other), 'arm')} not asked the sealed test, so no verdict."
        )
    return f"Confirmatory: pre-registered, sealed test, {plural(seeds, 'whole replicate')}."


def preset_sentences(study: StudyRecord) -> list[str]:
    """What the preset is, and which comparisons have a verdict; none without one."""
    if not study.preset:
        return []
    if study.preset == EXPLORATORY:
        return [
            "Exploratory: the seeds share tokenizers and all else that arms start from, and no "
            "comparison has a verdict."
        ]
    seal = study.info.get("preregistration") or {}
    commit = str(seal.get("commit") or "not stated")[:12]
    families: dict[str, int] = {}
    for named in study.named:
        families[named["family"]] = families.get(named["family"], 0) + 1
    each = [f"{name} ({plural(count, 'comparison')})" for name, count in families.items()]
    drew = "draws" if (other := arms_not_sealed(study)) else "drew"
    sentences = [
        f"Confirmatory: pre-registered in {seal.get('path') or 'a file'} at commit {commit}, whose "
        f"hash {drew} the test prompts; verdicts on what it names alone, {sentence(each)}, each "
        "family corrected by itself (Holm)."
    ]
    if file := study.info.get("study_file"):
        sentences.append(f"The study's own file, beside it: {file}.")
    if other:
        sentences.append(
            f"The scores of {sentence(other)} are on other prompts (their passports say which) and "
            "get no verdict; `unify study` asks the sealed ones."
        )
    return sentences
