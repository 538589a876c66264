"""Everything that differs between arms is listed."""

from report_study import write_study

from unify.answers.not_matched import not_matched
from unify.answers.study_records import load_study


def test_everything_that_differs_is_listed_and_nothing_that_is_equal(tmp_path):
    listed = " ".join(not_matched(load_study(write_study(tmp_path / "runs" / "quickstart"))))
    unequal = ["FLOPs of training", "a factor of 1.26", "Trainable parameters", "Training time"]
    for printed in [*unequal, "vae", "optimizer.lr"]:
        assert printed in listed
    for equal in ("Samples seen", "Rows per step", "weight_decay", "Data of"):
        assert equal not in listed


def test_an_unequal_ceiling_of_a_primary_outcome_is_listed_and_no_other(tmp_path):
    study = load_study(write_study(tmp_path / "study"))
    study.info["primary"] = ["text_to_image/exact/heldout"]
    for arm, heldout in (("ar_vq", 0.45), ("transfusion", 1.0)):
        about = {"arm": arm, "seed": 0, "n": 128, "passport": {}, "better": None}
        for score, value in (("exact/heldout", heldout), ("exact/one_object", 1 - heldout)):
            metric = f"text_to_image/{score}/ceiling"
            study.rows.append({**about, "metric": metric, "value": value})
    listed = " ".join(not_matched(study))
    assert "Ceiling of text_to_image/exact/heldout" in listed
    assert "ar_vq 0.450, transfusion 1.000" in listed
    assert "one_object" not in listed


def test_a_precision_that_differs_between_runs_is_listed(tmp_path):
    study = load_study(write_study(tmp_path / "study"))
    assert not any("Precision" in line for line in not_matched(study))
    for run, precision in zip(study.runs, ("32-true", "bf16-mixed"), strict=True):
        run.info["precision"] = precision
    (line,) = [line for line in not_matched(study) if "Precision" in line]
    assert line == "Precision of training: 32-true (ar_vq s0); bf16-mixed (transfusion s0)."
