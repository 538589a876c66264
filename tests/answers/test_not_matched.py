"""Everything that differs between arms is listed."""

from report_study import write_study

from unify.answers.not_matched import not_matched
from unify.answers.study_records import load_study


def test_everything_that_differs_is_listed_and_nothing_that_is_equal(tmp_path):
    listed = " ".join(not_matched(load_study(write_study(tmp_path / "runs" / "quickstart"))))
    unequal = ["FLOPs of training", "a factor of 1.26", "Trainable parameters", "Training time"]
    for printed in [*unequal, "vae", "optimizer.lr", "Ceiling set by the tokenizer"]:
        assert printed in listed
    for equal in ("Samples seen", "Rows per step", "weight_decay", "Data of"):
        assert equal not in listed


def test_a_precision_that_differs_between_runs_is_listed(tmp_path):
    study = load_study(write_study(tmp_path / "study"))
    assert not any("Precision" in line for line in not_matched(study))
    for run, precision in zip(study.runs, ("32-true", "bf16-mixed"), strict=True):
        run.info["precision"] = precision
    (line,) = [line for line in not_matched(study) if "Precision" in line]
    assert line == "Precision of training: 32-true (ar_vq s0); bf16-mixed (transfusion s0)."
