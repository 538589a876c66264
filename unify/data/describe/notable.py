"""What of a description is worth a look, in sentences; nothing where nothing is."""

from typing import Any

REPEATED = 0.01  # share of copies from which they are worth a look
FEW = 100  # evaluation records below which a split says little
ASKED = ("question", "answer")  # texts that are the same for many pictures


def notable(facts: dict[str, Any]) -> list[str]:
    """Sentences, what matters most first."""
    bad = facts["bad"]["records"]
    out = [f"{bad:,} bad {'records are' if bad > 1 else 'record is'} left out."] if bad else []
    pictures = facts["pictures"]
    if pictures:
        out += _overlap("picture", pictures["in_train"], pictures["near"])
    for name, texts in facts["texts"].items():
        if name not in ASKED:
            out += _overlap(name, texts["alike_in_train"], None)
    if pictures:
        out += _repeated("pictures", pictures["copies"]["copies"], facts["records"])
    for name, texts in facts["texts"].items():
        if name not in ASKED:
            out += _repeated(f"{name}s", texts["alike"]["copies"], texts["characters"]["records"])
    return [*out, *_small_splits(facts["counts"])]


def _overlap(what: str, exact: dict[str, Any], near: dict[str, Any] | None) -> list[str]:
    out = []
    for split, found in exact.items():
        if found["in_train"]:
            out.append(
                f"{found['in_train']:,} of {found['records']:,} {split} records have a {what} that "
                "a training record has, too."
            )
    for split, count in (near or {}).get("paired_with_train", {}).items():
        assert near is not None
        out.append(
            f"{count:,} of {near['compared'][split]:,} {split} {what}s look like one of the "
            f"{near['compared'].get('train', 0):,} training {what}s that they were compared with."
        )
    return out


def _repeated(what: str, copies: int, records: int) -> list[str]:
    if copies < REPEATED * records or not copies:
        return []
    return [f"{copies:,} of {records:,} {what} ({copies / records:.0%}) are copies of another."]


def _small_splits(counts: dict[str, dict[str, int]]) -> list[str]:
    out = []
    for split in ("validation", "test"):
        few = {task: sizes[split] for task, sizes in counts.items() if sizes.get("train")}
        if few and not any(few.values()):
            out.append(f"There are no {split} records.")
        elif few and max(few.values()) < FEW:
            out.append(f"The {split} split has at most {max(few.values()):,} records of a task.")
    return out
