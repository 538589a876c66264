"""Studies as jobs: which are sent, in which order, with which options."""

from types import SimpleNamespace

import pytest
from lab_study import study
from places import ROOT

from unify.cluster.missing_jobs import ClusterJob, levels, missing_jobs
from unify.cluster.submit import load_cluster, submit
from unify.cluster.wall_clock import wall_clock
from unify.config import load_recipe
from unify.runs.lookup import needed_configs, run_of
from unify.runs.study_files import read_tuning
from unify.schema.cluster import Cluster
from unify.study import tuning_trials
from unify.study.arms import resolve_arms, resolve_jobs
from unify.study.jobs import StudyRequest, error_file
from unify.study.needed_runs import needed_of
from unify.study.run_job import run_arm
from unify.study.tuning_trials import choose, plan_trials


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


def test_each_seed_of_whole_pipelines_has_its_own_array_of_needed_runs(tmp_path):
    """The command of each trains the run that the arms of its seed look for."""
    arms = {name: str(ROOT / "experiments" / f"{name}.yaml") for name in ("queries_dit", "ar_vq")}
    path = study(tmp_path, arms=arms, seeds=[0, 2], replicate="all")
    request = StudyRequest(path)
    resolved = resolve_arms(request)
    jobs = missing_jobs(request, *resolved)
    assert {level: {job.name for job in of} for level, of in enumerate(levels(jobs))} == {
        0: {f"{name}-s{n}" for name in ("shapes_text", "shapes_vq", "shapes_vae") for n in (0, 2)},
        1: {"vlm-s0", "vlm-s2"},
        2: {f"{arm}-s{n}" for arm in arms for n in (0, 2)},
        3: {"report"},
    }
    trained = {}
    for job in jobs:
        if job.words[0] == "train":
            _, _, file, *words = job.words
            trained[job.name] = load_recipe(file, words)
    needed = {
        f"{part['name']}-s{part['seeds']['init']}": part
        for one in (*resolve_jobs(request, *resolved), *needed_of(resolve_jobs(request, *resolved)))
        for part in needed_configs(one.config).values()
    }
    assert needed.keys() == trained.keys()
    for name, part in needed.items():
        found = [(p["name"], p["seeds"]) for p in needed_configs(part).values()]
        own = needed_configs(trained[name])
        assert [(p["name"], p["seeds"]) for p in own.values()] == found, name
        weights = dict.fromkeys(own, "0123456789ab")
        assert run_of(trained[name], weights).hash == run_of(part, weights).hash, name


def test_needed_runs_that_differ_in_noise_alone_are_two_jobs(tmp_path):
    file = str(ROOT / "experiments" / "transfusion.yaml")
    arms = {"one": file, "other": {"base": file, "seeds": {"noise": 50}}}
    request = StudyRequest(study(tmp_path, arms=arms, seeds=[0], replicate="all"))
    jobs = missing_jobs(request, *resolve_arms(request))
    names = [job.name for job in jobs if job.words[0] == "train"]
    assert names == [
        "shapes_text-s0", "shapes_vae-s0", "shapes_text-s0.2", "shapes_vae-s0.2",
    ]  # fmt: skip


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


@pytest.mark.slow
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


TUNED = {"metric": "text_to_image/exact", "trials": 2, "space": {"optimizer.lr": [0.02]}}


def test_a_tuned_study_is_trials_then_the_choice_then_runs_then_the_report(tmp_path):
    tune = {**TUNED, "defaults": True}
    request = StudyRequest(study(tmp_path, tune=tune), tiny=True)
    text = printed(request, Cluster())
    heads = [line for line in text.splitlines() if line.startswith("### ")]
    seeds = [f"transfusion{kind}-s{seed}" for seed in (0, 1) for kind in ("", ",default")]
    trials = [f"transfusion,trial={n}-s1000" for n in (0, 1)]
    assert heads == ["### " + ", ".join(x) for x in (trials, ["choice"], seeds, ["report"])]
    waits = [line for line in text.splitlines() if "--dependency" in line]
    assert [line.split("'")[1] for line in waits] == [
        f"afterany:<{name}>" for name in (trials[0], "choice", "transfusion-s0")
    ]


def test_the_choice_takes_the_best_of_trials_that_ended_and_waits_for_the_others(
    tmp_path, monkeypatch
):
    request = StudyRequest(study(tmp_path, tune=TUNED), tiny=True)
    with pytest.raises(ValueError, match="transfusion is not tuned yet"):
        run_arm(request, "transfusion", 0, lambda _: None, untimed=True)
    (message,) = choose(request, lambda _: None).values()
    assert "transfusion,trial=0 seed 1000 is not started" in message
    jobs = plan_trials(request).jobs["transfusion"]
    error_file(jobs[0]).parent.mkdir(parents=True)
    error_file(jobs[0]).write_text("it failed")
    scored = [{"metric": TUNED["metric"], "value": 0.5, "better": "higher"}]
    run = SimpleNamespace(finished=True, info={})
    second = jobs[1].config["name"]
    monkeypatch.setattr(
        tuning_trials, "find_run", lambda config: run if config["name"] == second else None
    )
    monkeypatch.setattr(tuning_trials, "stored_scores", lambda *a, **k: scored)
    assert not choose(request, lambda _: None)
    entry = read_tuning(tmp_path / "runs" / "lab")["transfusion"]
    assert [trial["score"] for trial in entry["trials"]] == [None, 0.5]
    assert entry["best"] == 1
    heads = [line for line in printed(request, Cluster()).splitlines() if line.startswith("### ")]
    assert heads == ["### transfusion-s0, transfusion-s1", "### report"]


def test_the_time_of_all_levels_is_no_less_than_their_longest_job_and_their_share():
    def job(name, level, seconds, verb="study"):
        return ClusterJob(name, (verb,), level, {"seconds": seconds})

    jobs = [job("vae", 0, 3600, "train"), job("vq", 0, 7200, "train")]
    jobs += [job(f"a,trial={n}-s0", 1, 3600) for n in range(6)]
    jobs += [ClusterJob("choice", ("study",), 2), job("a-s0", 3, 36000), job("a-s1", 3, 3600)]
    whole = wall_clock(jobs, lambda job: job.config["seconds"], ranks=8, at_once=3)
    assert whole.kinds == {"needed runs": (2, 3.0), "trials": (6, 6.0), "runs": (2, 11.0)}
    assert (whole.hours, whole.gpu_hours) == (2.0 + 2.0 + 10.0, 8 * 20.0)
    assert "6 trials 6 h, 2 runs 11 h; 3 at a time: 14 h, 160 h of GPUs" in whole.line()
