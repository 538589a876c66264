"""A study whose pictures were read by kind of error, with invented numbers."""

import json

import numpy as np
from report_study import write_results, write_study

KINDS_THERE = ("shape", "color", "place", "count", "extra", "flawed")


def failing_study(folder, seeds=(0, 1, 2)):
    """`write_study` with outcomes and rows of text_to_image/nearest and /errors."""
    write_study(folder, seeds=seeds, steps=20)
    rows = json.loads((folder / "results.json").read_text())
    for exact in [row for row in rows if row["metric"] == "text_to_image/exact"]:
        arm, seed = exact["arm"], exact["seed"]
        path = next(folder.glob(f"{arm}-s{seed}-*/eval/outcomes.npz"))
        kept = dict(np.load(path))
        generator = np.random.default_rng([seed, len(arm)])
        often = (0.05 if arm == "ar_vq" else 0.15) * generator.uniform(0.8, 1.2)
        wrong = {kind: generator.random(512) < often for kind in KINDS_THERE}
        wrong["count"] |= wrong["extra"]
        right = ~np.any(list(wrong.values()), axis=0)
        for name, row in {"nearest": right, **{f"errors/{k}": w for k, w in wrong.items()}}.items():
            kept[f"text_to_image/{name}"] = row.astype(float)
            better = "higher" if name == "nearest" else None
            value = {"metric": f"text_to_image/{name}", "value": float(row.mean())}
            rows.append({**exact, **value, "better": better})
        np.savez_compressed(path, **kept)
    write_results(folder, rows)
    return folder
