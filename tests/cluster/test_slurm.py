"""Studies as jobs of a real SLURM of two emulated nodes, where one is installed."""

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
from close_pictures import METRIC
from lab_study import study
from places import ROOT, TESTS
from whole_study import FROM_LANGUAGE, write_parts

LAB = Path(__file__).parent / "slurm_lab.sh"


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


def cluster(folder, **printed):
    """Two nodes with a rank each."""
    path = folder / "cluster.yaml"
    whole = {
        "nodes": 2,
        "memory_gib": 3,
        "minutes": 20,
        "notice": 60,
        "environment": {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
        "machine": {"strategy": "fsdp", "accelerator": "cpu", "precision": "32-true"},
        **printed,
    }
    path.write_text(yaml.safe_dump(whole))
    return str(path)


def numbers(folder):
    return json.loads((folder / "runs" / "lab" / "slurm" / "jobs.json").read_text())


def state(number):
    printed = subprocess.run(
        ["squeue", "-h", "-r", "-t", "all", "-j", number.split("_")[0], "-o", "%i %T"],
        capture_output=True,
        text=True,
    )
    return dict(line.split() for line in printed.stdout.splitlines()).get(number, "GONE")


def wait(number, wanted, seconds=900):
    """Until a job is in one of these states."""
    end = time.monotonic() + seconds
    while (now := state(number)) not in wanted:
        assert time.monotonic() < end, f"{number} is {now}"
        time.sleep(0.5)
    return now


def reached(folder, name):
    """The last checkpoint of a run."""
    result = sorted(folder.glob(f"runs/lab/{name}-*/checkpoints/step-*"))
    return int(result[-1].name[5:]) if result else 0


def weights(folder, name):
    (result,) = folder.glob(f"runs/lab/{name}-*/export/model.safetensors")
    return result.read_bytes()


def log(folder):
    return "\n".join(p.read_text() for p in sorted(folder.glob("runs/lab/slurm/*/*.out")))


def send(folder, *words):
    """Submit one run; its job's number."""
    one = study(folder, seeds=[0])
    unify("submit", one, *words, "--tiny", "--cluster", cluster(folder))
    return numbers(folder)["transfusion-s0"]


class TestReal:
    pytestmark = real

    @pytest.mark.drill  # a tuned study does all of it
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
        message = unify("status", str(tmp_path / "runs" / "lab"))
        assert message.count("finished, saved at 2 of 2") == 2
        again = unify("submit", study(tmp_path), "--tiny", "--cluster", cluster(tmp_path))
        assert "every run is finished" in again

    @pytest.mark.drill
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

    @pytest.mark.fault(13, times=3)
    def test_a_study_of_whole_pipelines_torn_by_kills_has_the_table_of_one_process(
        self, tmp_path, lab
    ):
        path = whole_pipelines(tmp_path)
        torn, whole = (f"machine.runs={tmp_path / name}" for name in ("runs", "whole"))
        unify("submit", path, torn, "--cluster", cluster(tmp_path, nodes=1, machine={}))
        sent, runs = numbers(tmp_path), tmp_path / "runs"
        assert list(sent) == [
            *("text-s1", "llm-s1", *(f"pretrained,trial={n}-s1001" for n in (0, 1))),
            *("choice", "pretrained-s1", "report"),
        ]
        language = until_saved(runs / "default", "llm-s1")
        kill_command("seeds.init=1")
        trial = until_saved(runs / "lab-tuning", "pretrained,trial=1-s1001")
        kill_command("pretrained,trial=1")
        trunk = until_saved(runs / "lab", "pretrained,trunk-s1")
        subprocess.run(["scontrol", "requeue", sent["pretrained-s1"]], check=True)
        assert wait(sent["report"], {"COMPLETED", "FAILED"}) == "COMPLETED", log(tmp_path)
        for torn_run in (language, trial, trunk):
            assert f"resuming from {torn_run}/checkpoints" in log(tmp_path)
        unify("study", path, whole)
        tables = [table(tmp_path / name / "lab") for name in ("runs", "whole")]
        assert tables[0] == tables[1]
        assert [arm for arm, *_ in tables[0][0]] == ["pretrained-s1"]

    @pytest.mark.drill
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

    @pytest.mark.drill
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


def until_saved(folder, name, seconds=600):
    """The folder of a run, as soon as it has a checkpoint."""
    end = time.monotonic() + seconds
    while not (saved := sorted(folder.glob(f"{name}-*/checkpoints/step-*/manifest.json"))):
        assert time.monotonic() < end, name
        time.sleep(0.1)
    return saved[0].parents[2]


def kill_command(*wanted):
    """End the command that was called by these words, as the kernel does when memory is out."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode().split("\0")
            if "unify.cli" in words and {*wanted} <= {*words}:
                os.kill(int(process.name), signal.SIGKILL)


def table(folder):
    """The scores of a study, and what its trials came to; without times and places."""
    rows = json.loads((folder / "results.json").read_text())
    scores = [(r["arm"], r["seed"], r["metric"], r["value"], r["low"], r["high"]) for r in rows]
    tuned = json.loads((folder / "tuning.json").read_text())
    trials = [
        (
            arm,
            each["best"],
            [(t["values"], t["score"], t["steps"], t["flops"]) for t in each["trials"]],
        )
        for arm, each in tuned.items()
    ]
    return trials, scores


def whole_pipelines(folder):
    """One arm under a seed that is not what studies share: with a vocabulary, a language model of
    it, trials and a trunk of its own. Returns the path of the study."""
    image = {"class": "unify.tokenizers.vae.VAE", "channels": 4, "widths": [8, 8, 8]}
    write_parts(folder, image, {"steps": 60, "logging": {"checkpoint_every": 5}})
    own = {"tracker": "none", "accelerator": "cpu", "precision": "32-true", "threads": 1}
    return study(
        folder,
        arms={"pretrained": {"base": "scratch.yaml", "model": FROM_LANGUAGE}},
        seeds=[1],
        replicate="all",
        cooldowns={"share": 0.2},
        tune={
            **{"metric": METRIC, "trials": 2, "share": 0.5},
            "space": {"optimizer.lr": [0.02, 0.01]},
        },
        set={
            **{"steps": 60, "machine": own, "logging": {"checkpoint_every": 5}},
            "evaluation": [{"class": f"{TESTS}/close_pictures.py:Closeness"}],
        },
        primary=[METRIC],
    )


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
