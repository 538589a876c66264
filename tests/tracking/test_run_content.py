"""What MLflow gets of a run folder: records, metrics, files."""

import getpass

from unify.tracking.run_content import artifacts, flatten, metrics_of, tags_of, unsent


def test_marks_tell_what_is_new_by_kind_and_step():
    records = [
        {"step": 1, "kind": "health", "time": 5.0},
        {"step": 1, "kind": "train"},
        {"step": 2, "kind": "health", "time": 6.0},
        {"step": 2, "kind": "train"},
        {"step": 2, "kind": "eval"},
        {"step": 2, "kind": "eval"},
    ]
    everything = list(unsent(records, {}))
    assert [record for record, _, _ in everything] == records
    assert [seconds for _, _, seconds in everything] == [5.0, 5.0, 6.0, 6.0, 6.0, 6.0]
    marks = {"train": [1, 1], "health": [2, 1], "eval": [2, 1]}
    assert [(r["kind"], m) for r, m, _ in unsent(records, marks)] == [
        ("train", [2, 1]),
        ("eval", [2, 2]),
    ]


def test_numbers_become_metrics_under_names_that_mlflow_takes():
    record = {"step": 3, "kind": "train", "loss/a b": 1, "at@5%": 0.5, "data": "ff", "gone": None}
    assert metrics_of(record) == {"loss/a b": 1.0, "at_5_": 0.5}
    assert metrics_of({"step": 1, "kind": "health", "time": 1.0, "eta_s": 2.0}) == {
        "health/eta_s": 2.0
    }
    assert dict(flatten({"a": {"b": [1, 2], "c": {"d": None}}, "e": 1.5})) == {
        "a.b": "[1, 2]",
        "a.c.d": "None",
        "e": "1.5",
    }


def test_checkpoints_weights_and_unfinished_files_are_no_artifacts(tmp_path):
    sent = {"config.yaml", "run.json", "samples/step-00000002-x.png", "eval/scores.json"}
    kept = {
        "samples/.tmp-1-x.png",
        "checkpoints/big.json",
        "eval/cache.npy",
        "export/w.safetensors",
    }
    for name in sent | kept | {"journal.jsonl"}:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    running, ended = artifacts(tmp_path), artifacts(tmp_path, ended=True)
    assert {path.relative_to(tmp_path).as_posix() for path in running} == sent
    assert {path.relative_to(tmp_path).as_posix() for path in ended} == sent | {"journal.jsonl"}


def test_tags_say_study_user_source_and_version():
    git = {"sha": "f00d", "dirty": True}
    environment = {"git": git, "command": ["unify", "study", "a/b.yaml", "--tiny"]}
    facts = {"study": "s", "arm": "a", "paradigm": "P", "seed": 0, "environment": environment}
    assert tags_of(facts) == {
        **{"study": "s", "arm": "a", "paradigm": "P", "seed": "0", "git_sha": "f00d"},
        "mlflow.user": getpass.getuser(),
        "mlflow.source.name": "a/b.yaml",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "f00d",
        "mlflow.source.git.dirty": "True",
    }
    assert tags_of({})["mlflow.source.name"] == "unify"
