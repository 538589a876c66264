"""What a registered comparison came to, from the folders that its replicates were published in.

    python docs/prereg/analysis.py replicates/*    each test, its words, and what they rest on

It reads what `unify report --publish` writes, with numpy and scipy alone: nothing of unify is
imported, so that it checks what the page of the study says. Outcomes of A and B are Y[r, p], r a
replicate (a whole pipeline) and p a prompt that is put to all:

    D = Y_A - Y_B,  D_rp = m + a_r + b_p + e_rp
    h^2 = (t_{R-1}^2 max(M_r, M_e) + t_{P-1}^2 max(M_p - M_e, 0)) / (R P)     half-width of m

with the mean squares of the two-way layout (docs/statistics.md). p is the tail whose h is |m|.
"""

import argparse
import hashlib
import io
import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import optimize, stats

DRAWING, ANSWERING = "text_to_image/nearest", "vqa/accuracy"
# first - second, each in the family of its outcome
TESTS = {
    DRAWING: [
        ("ar_vq", "masked"),
        ("mar", "transfusion"),
        ("transfusion_codes", "transfusion"),
        ("dual_tower", "transfusion"),
        ("pretrained_transfusion", "queries_dit"),
        ("pretrained_transfusion", "crossflow"),
    ],
    ANSWERING: [("ar_vq", "transfusion"), ("dual_tower", "transfusion"), ("masked", "ar_vq")],
}
LEVEL, LEAST, EQUIVALENT = 0.05, 0.02, 0.05  # Holm; of an estimate; of a 90% interval
GAIN, RATIO, FULL, EMPTY, ROUNDING = 1.0, 0.5, 0.98, 0.02, 1e-9
NEEDED_TO_FLIP = 8  # replicates from which the sign flips have to agree
HIGHER, LOWER, SAME, OPEN = "higher", "lower", "equivalent", "not told apart"


@dataclass
class Test:
    """One comparison. `by_replicate`: the mean difference of each; `simultaneous`: 95% for all
    tests of the family together; `left_out`: lowest and highest mean without one replicate."""

    first: str
    second: str
    mean: float
    by_replicate: np.ndarray
    half_90: float
    simultaneous: tuple[float, float]
    p: float
    flip_p: float
    left_out: tuple[float, float]
    adjusted_p: float = 1.0
    adjusted_flip_p: float = 1.0
    words: str = ""
    reason: str = ""


def half_width(d: np.ndarray, tail: float) -> float:
    """Half-width of the mean of differences [R P] that misses it with probability `tail`."""
    r, p = d.shape
    rows, columns, mean = d.mean(1), d.mean(0), d.mean()
    rest = d - rows[:, None] - columns[None] + mean
    of_rows = p * np.square(rows - mean).sum() / (r - 1)
    of_columns = r * np.square(columns - mean).sum() / (p - 1)
    of_rest = np.square(rest).sum() / ((r - 1) * (p - 1))
    t_rows, t_columns = (stats.t.isf(tail / 2, n - 1) for n in (r, p))
    parts = t_rows**2 * max(of_rows, of_rest) + t_columns**2 * max(of_columns - of_rest, 0.0)
    return math.sqrt(parts / (r * p))


def flips(by_replicate: np.ndarray) -> float:
    """Exact two-sided p: all signs of the replicates' differences [R] are as likely."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(by_replicate))))
    sums = np.abs(signs @ by_replicate)
    return float(np.mean(sums >= abs(by_replicate.sum()) - 1e-9))


def holm(ps: list[float]) -> list[float]:
    """Adjusted p of a family: Holm (1979)."""
    order, adjusted, highest = np.argsort(ps), [1.0] * len(ps), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[index]))
        adjusted[index] = highest
    return adjusted


def test_of(first: str, second: str, a: np.ndarray, b: np.ndarray, tests: int) -> Test:
    """The comparison of outcomes a, b [R P], one of so many tests."""
    d = a.astype(float) - b.astype(float)
    mean, rows = float(d.mean()), d.mean(1)
    p = 1.0
    if mean:
        small = half_width(d, 1e-12) <= abs(mean)
        p = 1e-12 if small else optimize.brentq(lambda t: half_width(d, t) - abs(mean), 1e-12, 1.0)
    half = half_width(d, LEVEL / tests)
    without = [float(np.delete(rows, r).mean()) for r in range(len(rows))]
    at_once = mean - half, mean + half
    left_out = min(without), max(without)
    return Test(first, second, mean, rows, half_width(d, 0.1), at_once, p, flips(rows), left_out)


def say_words(test: Test, why_not: str) -> None:
    """The registered words of a test whose p are adjusted; `why_not`: against a verdict."""
    needed = len(test.by_replicate) >= NEEDED_TO_FLIP
    told = test.adjusted_p < LEVEL, test.adjusted_flip_p < LEVEL or not needed
    turns = test.left_out[0] <= 0 <= test.left_out[1]
    if why_not:
        test.words, test.reason = OPEN, why_not
    elif all(told) and abs(test.mean) >= LEAST and not turns:
        test.words = HIGHER if test.mean > 0 else LOWER
    elif abs(test.mean) + test.half_90 <= EQUIVALENT:
        test.words = SAME
    else:
        test.words = OPEN
        if told[0] != told[1]:
            test.reason = "the tests disagree"
        elif told[0]:
            test.reason = "one replicate decides" if turns else f"less than {LEAST}"


def family(
    outcomes: dict[str, np.ndarray], gains: dict[str, float], pairs, waits: str = ""
) -> list[Test]:
    """The tests of a family with their words, as far as there are outcomes of both arms [R P]: what
    is not there counts as a test all the same.

    `gains`: mean rise of an arm from half to all of its steps, infinite where it is not known;
    `waits`: why there are no words for any.
    """
    there = [(a, b) for a, b in pairs if a in outcomes and b in outcomes]
    tests = [test_of(a, b, outcomes[a], outcomes[b], len(pairs)) for a, b in there]
    absent = [1.0] * (len(pairs) - len(there))
    for name in ("p", "flip_p"):
        adjusted = holm([*(getattr(test, name) for test in tests), *absent])
        for test, value in zip(tests, adjusted, strict=False):
            setattr(test, f"adjusted_{name}", value)
    for test in tests:
        worse = test.second if test.mean > 0 else test.first
        why_not = waits or untestable(test, outcomes) or unlearned(worse, outcomes[worse], gains)
        say_words(test, why_not)
    return tests


def untestable(test: Test, outcomes: dict[str, np.ndarray]) -> str:
    means = [outcomes[arm].mean() for arm in (test.first, test.second)]
    return "not testable" if min(means) > FULL or max(means) < EMPTY else ""


def unlearned(arm: str, outcomes: np.ndarray, gains: dict[str, float]) -> str:
    """Why there is no verdict against an arm; empty if it had learned."""
    rows = outcomes.mean(1)
    spread = rows.min() < RATIO * rows.max() - ROUNDING
    if gains.get(arm, 0.0) > GAIN + ROUNDING or spread:
        return f"{arm} had not learned yet"
    return ""


def read(folders: list[Path], metric: str):
    """Of published folders {arm: outcomes [R P]} and {arm: mean gain}, replicates by their seeds,
    and why there are no words yet. SystemExit for what cannot be put together."""
    outcomes: dict[str, dict[int, np.ndarray]] = {}
    gains: dict[str, list[float]] = {}
    ways: set[str] = set()
    planned: set[int] = set()
    unsealed = False
    for folder in folders:
        content, arrays = opened(folder)
        planned |= {*content["planned"]}
        for arm, entry in content["arms"].items():
            for scores in entry["scores"]:
                if scores["metric"] == metric:
                    passport = content["passports"][scores["passport"]]
                    ways.add(measured(passport))
                    unsealed |= passport.get("sealed") != seal(content)
            if len(ways) > 1:
                raise SystemExit(f"{folder}: {metric} of {arm} was measured otherwise")
            if metric not in entry["outcomes"]:
                continue
            for run, row in zip(entry["runs"], arrays[f"{arm}/{metric}"], strict=True):
                if run["seed"] in outcomes.setdefault(arm, {}):
                    raise SystemExit(f"{folder}: seed {run['seed']} of {arm} is there twice")
                outcomes[arm][run["seed"]] = row
                if content["asked"].get("learned"):
                    gains.setdefault(arm, []).append(gain_of(run, metric))
    seeds = {arm: sorted(rows) for arm, rows in outcomes.items()}
    if len({tuple(each) for each in seeds.values()}) > 1:
        raise SystemExit(f"{metric}: arms have unlike replicates: {seeds}")
    there = {seed for each in seeds.values() for seed in each}
    to_come = f"{len(planned - there)} replicates to come" if planned - there else ""
    return (
        {arm: np.stack([rows[seed] for seed in seeds[arm]]) for arm, rows in outcomes.items()},
        {arm: float(np.mean(rises)) for arm, rises in gains.items()},
        to_come or ("not the sealed prompts" if unsealed else ""),
    )


def seal(content: dict) -> str:
    """What the passports of a registered study say of their prompts; of another study no passport
    says it."""
    named = content["asked"].get("preregistration")
    return f"{named['path']} at {named['commit'][:12]}" if named else "no pre-registration"


def opened(folder: Path):
    """published.json and outcomes.npz of a folder, which must be as they were written together."""
    try:
        content = json.loads((folder / "published.json").read_text("utf-8"))
        packed = (folder / "outcomes.npz").read_bytes()
    except (OSError, ValueError) as error:
        raise SystemExit(f"{folder}: no published study: {error}") from error
    if hashlib.sha256(packed).hexdigest() != content["outcomes.npz"]:
        raise SystemExit(f"{folder}: outcomes.npz is not the one that published.json was made with")
    return content, np.load(io.BytesIO(packed), allow_pickle=False)


def measured(passport: dict) -> str:
    """How a score was measured: its passport but for the arm's own sampler and unify's version."""
    kept = {k: v for k, v in passport.items() if k not in ("sampler", "tokenizer", "version")}
    return json.dumps(kept, sort_keys=True)


def gain_of(run: dict, metric: str) -> float:
    """The rise of a validation score from half to all of a run's steps, infinite where one of the
    two was not kept; of a run with a schedule of its own, not one that cools down from another."""
    at = {record["step"]: record.get(metric) for record in run.get("curve") or []}
    half, end = (at.get(step) for step in (max(1, round(run["steps"] / 2)), run["steps"]))
    return math.inf if half is None or end is None else end - half


def table(tests: list[Test]) -> str:
    lines = ["| first - second | mean | 95%, all together | p, Holm | signs | left out | words |"]
    lines.append("|---|---|---|---|---|---|---|")
    for t in tests:
        low, high = t.simultaneous
        words = t.words + (f" ({t.reason})" if t.reason else "")
        lines.append(
            f"| {t.first} - {t.second} | {t.mean:+.3f} | {low:+.3f} to {high:+.3f} "
            f"| {t.adjusted_p:.4f} | {t.adjusted_flip_p:.4f} "
            f"| {t.left_out[0]:+.3f} to {t.left_out[1]:+.3f} | {words} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args().folders
    for metric, pairs in TESTS.items():
        outcomes, gains, waits = read(folders, metric)
        for arm in sorted({arm for pair in pairs for arm in pair} - outcomes.keys()):
            print(f"{metric}: no outcomes of {arm}")
        if any(len(rows) < 2 for rows in outcomes.values()):
            print(f"\n{metric}: one replicate cannot be compared; {waits}")
            continue
        print(f"\n{metric}\n\n{table(family(outcomes, gains, pairs, waits))}")


if __name__ == "__main__":
    main()
