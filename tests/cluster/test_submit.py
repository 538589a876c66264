"""Studies as jobs: what is sent, and a real SLURM of two emulated nodes where there is one."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from places import ROOT

from unify.cluster.requeue import LOSSES, Requeued
from unify.cluster.submit import load_cluster, submit
from unify.distributed.ranks import World, first_host, from_slurm, world
from unify.schema.cluster import Cluster
from unify.study.jobs import StudyRequest
from unify.study.run_job import run_arm

LAB = Path(__file__).parent / "slurm_lab.sh"


def study(folder, **said):
    """A study of two runs that need nothing trained before."""
    path = folder / "lab.yaml"
    whole = {
        "name": "lab",
        "arms": {"transfusion": str(ROOT / "experiments" / "transfusion.yaml")},
        "seeds": [0, 1],
        "set": {"machine": {"runs": str(folder / "runs"), "tracker": "none"}},
        **said,
    }
    path.write_text(yaml.safe_dump(whole))
    return str(path)


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


def test_a_slurm_step_is_a_world():
    step = {
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "node[07-08]",
        "SLURM_JOB_ID": "123456",
    }
    from_slurm(step)
    assert world(step) == World(rank=5, local_rank=1, size=8, local_size=4)
    assert (step["MASTER_ADDR"], step["MASTER_PORT"]) == ("node07", "18456")
    script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}
    from_slurm(script)
    assert world(script) == World(), "the batch script is no task of a step"
    with pytest.raises(ValueError, match="3 tasks do not lie evenly on 2 nodes"):
        from_slurm({**script, "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NUM_NODES": "2"})
    launched = {"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}
    from_slurm(launched)
    assert world(launched) == World(0, 0, 2, 2), "torchrun has the last word"
    with pytest.raises(ValueError, match="evenly"):
        world({"RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"})


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("a", "a"),
        ("a,b", "a"),
        ("gpu[3-5,9]", "gpu3"),
        ("x[01],y", "x01"),
        ("cpu1,gpu[3-5]", "cpu1"),
        ("rack[1-2]n[07-09,12],other", "rack1n07"),
        ("", "127.0.0.1"),
    ],
)
def test_the_first_host_of_a_list(hosts, first):
    assert first_host(hosts) == first


LATE = """
import signal, sys, time
print("deaf", flush=True)
time.sleep(1.5)  # deaf until here
told = []
signal.signal(signal.SIGUSR1, lambda *_: told.append(1))
for _ in range(100):
    time.sleep(0.1)
    if told:
        sys.exit(75)
"""
WRAPPER = """
import sys
from pathlib import Path
from unify.cluster.requeue import Requeued
Requeued(sys.argv[3:], 20, 5, Path(sys.argv[1]) / "losses")()
"""
NOTICES = [(signal.SIGUSR2, True), (signal.SIGUSR1, True), (signal.SIGTERM, False)]


@pytest.mark.fault(13)
@pytest.mark.parametrize(("number", "requeued"), NOTICES)
def test_a_notice_is_repeated_until_heard_and_the_job_requeued(tmp_path, number, requeued):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/said\n")
    scontrol.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_PROCID": "0",
    }
    command = [sys.executable, "-c", WRAPPER, str(tmp_path), "-", sys.executable, "-c", LATE]
    task = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert task.stdout is not None
    assert task.stdout.readline() == "deaf\n", "the child does not hear it yet"
    task.send_signal(number)
    said, end = tmp_path / "said", time.monotonic() + 60
    while requeued and "requeue" not in (said.read_text() if said.exists() else ""):
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(1.0 if requeued else 7.0)
    assert task.poll() is None, "it waits for SLURM to take it down"
    task.kill()
    task.wait()
    assert said.exists() == requeued
    if requeued:
        assert said.read_text() == "show job -o 7_3\nrequeue 7_3\n"


def test_a_failing_command_fails_its_task(tmp_path):
    def run(code):
        Requeued([sys.executable, "-c", code], 1, 1, tmp_path / "losses")()

    run("")
    with pytest.raises(SystemExit) as ended:
        run("raise SystemExit(3)")
    assert ended.value.code == 3
    (tmp_path / "losses").write_text("\n".join(map(str, range(LOSSES))))  # as often as it may be
    with pytest.raises(SystemExit) as ended:
        run("import os; os.kill(os.getpid(), 9)")
    assert ended.value.code == 128 + 9


MISSING = [name for name in ("slurmctld", "slurmd", "munged") if not shutil.which(name)]
real = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no SLURM here: {', '.join(MISSING)} not installed"),
    pytest.mark.skipif(os.getuid() != 0, reason="SLURM's daemons are started as root"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A running SLURM; its configuration is in the environment."""
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    up = subprocess.run(["bash", LAB, "up", folder], capture_output=True, text=True, timeout=120)
    assert up.returncode == 0, up.stderr
    os.environ["SLURM_CONF"] = up.stdout.strip()
    yield folder
    subprocess.run(["bash", LAB, "down", folder], check=True, timeout=120)
    del os.environ["SLURM_CONF"]


def unify(*words, fails=False):
    done = subprocess.run(
        [sys.executable, "-m", "unify.cli", *words], capture_output=True, text=True, cwd=ROOT
    )
    assert fails or done.returncode == 0, done.stderr
    return done.stdout


def cluster(folder, **said):
    """Two nodes with a rank each."""
    path = folder / "cluster.yaml"
    whole = {
        "nodes": 2,
        "memory_gib": 3,
        "minutes": 20,
        "notice": 60,
        "environment": {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
        "machine": {"strategy": "fsdp", "accelerator": "cpu", "precision": "32-true"},
        **said,
    }
    path.write_text(yaml.safe_dump(whole))
    return str(path)


def numbers(folder):
    return json.loads((folder / "runs" / "lab" / "slurm" / "jobs.json").read_text())


def state(number):
    said = subprocess.run(
        ["squeue", "-h", "-r", "-t", "all", "-j", number.split("_")[0], "-o", "%i %T"],
        capture_output=True,
        text=True,
    )
    return dict(line.split() for line in said.stdout.splitlines()).get(number, "GONE")


def wait(number, wanted, seconds=900):
    """Until a job is in one of these states."""
    end = time.monotonic() + seconds
    while (now := state(number)) not in wanted:
        assert time.monotonic() < end, f"{number} is {now}"
        time.sleep(0.5)
    return now


def reached(folder, name):
    """The last checkpoint of a run."""
    found = sorted(folder.glob(f"runs/lab/{name}-*/checkpoints/step-*"))
    return int(found[-1].name[5:]) if found else 0


def weights(folder, name):
    (found,) = folder.glob(f"runs/lab/{name}-*/export/model.safetensors")
    return found.read_bytes()


def log(folder):
    return "\n".join(p.read_text() for p in sorted(folder.glob("runs/lab/slurm/*/*.out")))


def send(folder, *words):
    """Submit one run; its job's number."""
    one = study(folder, seeds=[0])
    unify("submit", one, *words, "--tiny", "--cluster", cluster(folder))
    return numbers(folder)["transfusion-s0"]


class TestReal:
    pytestmark = real

    def test_a_study_is_trained_scored_and_reported_by_jobs(self, tmp_path, lab):
        unify("submit", study(tmp_path), "--tiny", "--cluster", cluster(tmp_path))
        sent = numbers(tmp_path)
        assert list(sent) == ["transfusion-s0", "transfusion-s1", "report"]
        assert state(sent["report"]) == "PENDING", "it waits for the array"
        assert "pending (Dependency)" in unify("status", str(tmp_path / "runs" / "lab"))
        for number in sent.values():
            assert wait(number, {"COMPLETED", "FAILED"}) == "COMPLETED", log(tmp_path)
        rows = json.loads((tmp_path / "runs" / "lab" / "results.json").read_text())
        assert {row["seed"] for row in rows if "seed" in row} == {0, 1}
        assert (tmp_path / "runs" / "lab" / "report.html").exists()
        told = unify("status", str(tmp_path / "runs" / "lab"))
        assert told.count("finished, saved at 2 of 2") == 2
        again = unify("submit", study(tmp_path), "--tiny", "--cluster", cluster(tmp_path))
        assert "every run is finished" in again

    @pytest.mark.fault(13, times=10)
    def test_ten_requeues_end_bit_equal(self, tmp_path, lab):
        whole, torn = tmp_path / "whole", tmp_path / "torn"
        for folder in (whole, torn):
            folder.mkdir()
        words = ["steps=400", "logging.checkpoint_every=5"]
        number, other = (send(folder, *words) for folder in (torn, whole))
        for time_ in range(10):
            before = reached(torn, "transfusion-s0")
            end = time.monotonic() + 300
            while reached(torn, "transfusion-s0") <= before and time.monotonic() < end:
                time.sleep(0.2)
            assert state(number) == "RUNNING", f"requeue {time_}: {log(torn)}"
            subprocess.run(["scontrol", "requeue", number], check=True)
            wait(number, {"PENDING", "RUNNING"})
        assert wait(number, {"COMPLETED", "FAILED"}) == "COMPLETED", log(torn)
        assert wait(other, {"COMPLETED", "FAILED"}) == "COMPLETED", log(whole)
        assert log(torn).count("resuming from") >= 10
        assert weights(torn, "transfusion-s0") == weights(whole, "transfusion-s0")

    @pytest.mark.fault(13)
    def test_a_preempted_job_saves_and_comes_back(self, tmp_path, lab):
        number = send(tmp_path, "steps=200", "logging.checkpoint_every=1000")
        training(tmp_path)
        above = ["sbatch", "-p", "hi", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3"]
        subprocess.run(above, check=True, capture_output=True)
        wait(number, {"PENDING"}, 180)
        assert 0 < reached(tmp_path, "transfusion-s0") < 200, "saved when it was told"
        assert wait(number, {"COMPLETED", "FAILED"}) == "COMPLETED", log(tmp_path)
        assert log(tmp_path).count("resuming from") >= 1
        assert reached(tmp_path, "transfusion-s0") == 200

    @pytest.mark.fault(14)
    def test_a_lost_node_costs_its_jobs_a_checkpoint_at_most(self, tmp_path, lab):
        number = send(tmp_path, "steps=150", "logging.checkpoint_every=10")
        end = time.monotonic() + 300
        while not (before := reached(tmp_path, "transfusion-s0")):
            assert time.monotonic() < end, log(tmp_path)
            time.sleep(0.2)
        kill_node("node2")
        try:
            wait(number, {"PENDING", "CONFIGURING"}, 300)
        finally:  # the other tests need it
            subprocess.run(["bash", LAB, "up", lab], check=True, timeout=120, capture_output=True)
        assert wait(number, {"COMPLETED", "FAILED"}) == "COMPLETED", log(tmp_path)
        resumed = re.findall(r"resuming from .*step-(\d+)", log(tmp_path))
        assert int(resumed[0]) >= before

    @pytest.mark.fault(13)
    def test_cancelled_jobs_stay_cancelled_and_can_be_sent_again(self, tmp_path, lab):
        words = ["steps=600", "logging.checkpoint_every=10"]  # more than it makes until then
        number = send(tmp_path, *words)
        training(tmp_path)
        assert "2 of 2 jobs" in unify("cancel", str(tmp_path / "runs" / "lab"))
        wait(number, {"CANCELLED"}, 180)
        time.sleep(5)
        assert state(number) == "CANCELLED"
        again = send(tmp_path, *words)
        assert wait(again, {"COMPLETED", "FAILED"}) == "COMPLETED", log(tmp_path)


def training(folder, seconds=300):
    """Until the run of seed 0 makes steps."""
    end = time.monotonic() + seconds
    while "step 20/" not in log(folder):
        assert time.monotonic() < end, log(folder)
        time.sleep(0.2)


def kill_node(name):
    """What happens when a machine goes: its daemon, the keepers of its steps, what they started.

    In that order: a keeper that lives would still tell how its task has ended.
    """
    keepers, tasks, here = set(), set(), f"SLURMD_NODENAME={name}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode().split("\0")
            if words[0].endswith("slurmd") and name in words:
                keepers.add(int(process.name))
            if here in (process / "environ").read_bytes().split(b"\0"):
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                (keepers if "slurmstepd" in words[0] else tasks).add(int(process.name))
                if "slurmstepd" in Path(f"/proc/{parent}/cmdline").read_text():
                    keepers.add(parent)
    for process in [*keepers, *(tasks - keepers)]:
        with suppress(OSError):
            os.kill(process, signal.SIGKILL)
