"""How often the words of analysis.py come out on invented outcomes.

python docs/prereg/simulation.py --trials 1000 --replicates 8 --prompts 256
"""

import argparse
import itertools

import numpy as np
from analysis import DRAWING, HIGHER, LOWER, TESTS, family


def invented(rng, replicates: int, prompts: int, effect: float, spread: float, learn: float):
    """Outcomes of all arms: logits of a prompt (sd 1), of an arm's replicate (sd `spread`), and of
    `transfusion` and its kind, `effect` below; a replicate learns with probability `learn`, else
    it draws a tenth of what it would."""
    arms = sorted({arm for pair in TESTS[DRAWING] for arm in pair})
    hard = rng.normal(0, 1, prompts)
    made = {}
    for arm in arms:
        base = 1.0 - (effect if "transfusion" in arm and arm != "transfusion_codes" else 0.0)
        logits = base + hard + rng.normal(0, spread, (replicates, 1))
        share = 1 / (1 + np.exp(-logits))
        share *= np.where(rng.random((replicates, 1)) < learn, 1.0, 0.1)
        made[arm] = rng.random((replicates, prompts)) < share
    return made


def simulate(trials: int, replicates: int, prompts: int, seed: int) -> str:
    """Shares of trials in which words came out, without effect, with one, and where few learn."""
    lines = [
        "| invented | any higher or lower | `ar_vq` - `masked` told | `mar` - `transfusion` told |"
    ]
    lines.append("|---|---|---|---|")
    for spread, effect, learn in itertools.product((0.1, 0.3, 0.6), (0.0, 0.5, 1.0), (1.0, 0.7)):
        rng = np.random.default_rng([seed, int(10 * spread), int(10 * effect), int(10 * learn)])
        told = np.zeros(3)
        for _ in range(trials):
            made = invented(rng, replicates, prompts, effect, spread, learn)
            tests = family(made, {}, TESTS[DRAWING])
            verdicts = [test.words in (HIGHER, LOWER) for test in tests]
            told += (any(verdicts), verdicts[0], verdicts[1])
        some, null, real = told / trials
        what = f"spread {spread}, effect {effect} logits, {learn:.0%} learn"
        lines.append(f"| {what} | {some:.3f} | {null:.3f} | {real:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("trials", 1000), ("replicates", 8), ("prompts", 256), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    print(simulate(args.trials, args.replicates, args.prompts, args.seed))


if __name__ == "__main__":
    main()
