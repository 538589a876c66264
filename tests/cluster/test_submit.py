"""Studies as jobs: which are sent, in which order, with which options."""

import pytest
from lab_study import study
from places import ROOT

from unify.cluster.submit import load_cluster, submit
from unify.schema.cluster import Cluster
from unify.study.jobs import StudyRequest
from unify.study.run_job import run_arm


def printed(request, cluster):
    lines = []
    submit(request, cluster, lines.append, print_only=True)
    return "\n".join(lines)


def test_what_is_needed_is_an_array_before_the_arms_and_the_report_after(tmp_path):
    path = str(ROOT / "experiments" / "studies" / "quickstart.yaml")
    words = [f"machine.runs={tmp_path}/runs"]
    text = printed(StudyRequest(path, words), Cluster(partition="gpu", at_once=2))
    heads = [line for line in text.splitlines() if line.startswith("### ")]
    assert heads == [
        "### shapes_text-s0, shapes_vq-s0, shapes_vae-s0",
        "### vlm-s0",
        "### ar_vq-s0, transfusion-s0, dual_tower-s0, queries_dit-s0, crossflow-s0",
        "### report",
    ]
    scripts = text.split("### ")[1:]
    assert "--array=0-2%2" in scripts[0]
    assert "--dependency" not in scripts[0]
    assert "--dependency='afterok:<shapes_text-s0>'" in scripts[1]
    assert "--array=0-4%2" in scripts[2]
    assert "--dependency='afterany:<ar_vq-s0>'" in scripts[3]
    assert all("#SBATCH --partition=gpu" in script for script in scripts)
    assert not (tmp_path / "runs").exists(), "nothing is written to look"


def test_a_cluster_says_what_sbatch_is_told(tmp_path):
    said = Cluster(
        nodes=2,
        ranks=4,
        gres="gpu:h100:4",
        memory_gib=1.5,
        minutes=90,
        notice=30,
        setup=["module load cuda"],
        environment={"NAME": "a b"},
        sbatch={"reservation": "mine"},
    )
    rows = ["data.tasks={text_to_image: 8, caption: 8, vqa: 8}"]
    text = printed(StudyRequest(study(tmp_path), rows, tiny=True), said).split("### ")[1]
    for line in (
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gres=gpu:h100:4",
        "--mem=1536MB",
        "--time=90",
        "--signal=USR2@30",
        "--reservation=mine",
        "--requeue",
        "--open-mode=append",
    ):
        assert f"#SBATCH {line}" in text
    assert "module load cuda\nexport NAME='a b'" in text


def test_what_was_cancelled_while_it_was_scored_is_sent_again(tmp_path):
    small = [{"class": "unify.metrics.shapes_texts.Captions", "images": 2, "heldout": 0}]
    said = {"tracker": "none", "accelerator": "cpu"}
    words = [f"machine.{key}={value}" for key, value in said.items()] + ["steps=2"]
    arms = {"transfusion": {"base": str(ROOT / "experiments" / "transfusion.yaml")}}
    arms["transfusion"]["evaluation"] = small
    request = StudyRequest(study(tmp_path, arms=arms, seeds=[0]), words, tiny=True)

    def sent():
        text = printed(request, Cluster())
        return [line for line in text.splitlines() if line.startswith("### ")]

    assert sent() == ["### transfusion-s0", "### report"]
    assert run_arm(request, "transfusion", None, lambda _: None, untimed=True) == 0
    assert sent() == [], "trained and scored"
    (scores,) = tmp_path.glob("runs/lab/transfusion-*/eval/scores.json")
    scores.unlink()
    assert sent() == ["### transfusion-s0", "### report"]


def test_shipped_clusters_are_read_and_wrong_ones_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert load_cluster("example").gpus == 4
    assert load_cluster("experiments/clusters/cpu.yaml").nodes == 2
    with pytest.raises(ValueError, match=r"--cluster nowhere.*cpu.*example"):
        load_cluster("nowhere")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("partitoin: gpu\n")
    with pytest.raises(ValueError, match="partition"):
        load_cluster(str(wrong))
