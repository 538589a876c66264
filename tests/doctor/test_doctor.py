"""`unify doctor`: troubles that are there for real, each named with what to do about it."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from places import ROOT

from unify.doctor import attempt, hardware, line, places, slurm, software
from unify.doctor.finding import Finding

CALM = {"PreemptType": "preempt/none", "SLURM_VERSION": "24.05.1"}
PREEMPTS = {"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE"}
SIGNALS = {**PREEMPTS, "SlurmctldParameters": "preempt_send_user_signal"}
STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NODELIST": "nowhere[1-2].invalid",
}


def only(found):
    """The one finding, which says what to do unless all is well."""
    (finding,) = found
    assert finding.state == "ok" or finding.do
    return finding


def script(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def fake_slurm(folder, settings, grace=0):
    """Commands that answer as a cluster with these settings does."""
    config = "\n".join(f"{key:<24}= {value}" for key, value in settings.items())
    script(folder, "sinfo", "echo 'main*|up|2-00:00:00|4|gpu:h100:4'; echo 'hi|down|1:00|1|(null)'")
    script(folder, "srun", "")
    script(folder, "sbatch", "")
    partition = f"PartitionName=main GraceTime={grace} PreemptMode=REQUEUE"
    above = "PartitionName=hi GraceTime=0 PreemptMode=OFF"
    show = f"case $2 in config) echo '{config}';; partition) echo '{partition}\n{above}';; esac"
    script(folder, "scontrol", show)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def found(settings, grace=0):
        fake_slurm(tmp_path / "bin", settings, grace)
        return {f.name: f for f in slurm.cluster()}

    return found


# versions


def test_what_is_installed_is_as_required():
    states = {f.name: f.state for f in software.installed()}
    assert states["python"] == states["packages"] == "ok"


@pytest.mark.parametrize(
    ("requirement", "said"),
    [("torch>=99", "requires torch>=99"), ("no-such-package>=2", "not installed")],
)
def test_a_requirement_that_is_not_met_is_named(requirement, said):
    found = {f.name: f for f in software.installed(["typer", requirement])}
    wrong = found[requirement.split(">")[0]]
    assert wrong.state == "problem"
    assert said in wrong.found
    assert f"pip install '{requirement}'" in wrong.do
    assert "packages" not in found


def test_a_malicious_release_costs_every_password(tmp_path, monkeypatch):
    facts = tmp_path / "lightning-2.6.3.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: lightning\nVersion: 2.6.3\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = {f.name: f for f in software.installed(["lightning>=2.6.4,!=2.6.2,!=2.6.3"])}
    assert found["lightning"].found.startswith("2.6.3;")
    assert "change every password" in found["lightning"].do


def test_a_missing_extra_is_a_note():
    found = software.installed(["typer", 'no-such-package; extra == "cluster"'])
    note = next(f for f in found if f.name == "[cluster]")
    assert note.state == "note"
    assert "no-such-package" in note.found
    assert "pip install '.[cluster]'" in note.do


def test_a_torchvision_that_does_not_load(monkeypatch):
    assert only(software.vision()).state == "ok"
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    found = only(software.vision())
    assert found.state == "problem"
    assert "from one index" in found.do


@pytest.mark.parametrize("name", ["/nowhere/g++", "false"])
def test_a_compiler_that_does_not_compile(name, monkeypatch):
    monkeypatch.setenv("CXX", name)
    found = only(software.compiler())
    assert found.state != "ok"
    assert name in found.found
    assert "g++" in found.do
    assert "CXX" in found.do


def test_an_xformers_of_another_torch(tmp_path, monkeypatch):
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers/__init__.py").write_text("raise RuntimeError('built for another')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "xformers", raising=False)
    _, note = software.attention()
    assert "built for another" in note.found
    assert "uninstall" in note.do


# devices and ranks


def test_a_device_that_computes_wrongly(monkeypatch):
    assert hardware._tried("cpu", "this CPU").state == "ok"
    monkeypatch.setattr(hardware, "ROUNDING", 0.0)
    found = hardware._tried("cpu", "this CPU")
    assert found.state == "problem"
    assert "off by" in found.found
    assert "do not train" in found.do


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sleep", "600"], "did not exchange within 0.3 s"),
        (["sh", "-c", "echo no route >&2; exit 3"], "ended with status 3; no route"),
        (["sh", "-c", "kill -9 $$"], "ended with SIGKILL"),
    ],
)
def test_ranks_that_do_not_answer_or_die(command, said):
    limit = 0.3 if command[0] == "sleep" else 60
    found = only(hardware.ranks(command, limit))
    assert found.state == "problem"
    assert said in found.found
    assert "_SOCKET_IFNAME" in found.do


def test_ranks_without_a_way_to_each_other(monkeypatch):
    """Real ranks; the network that they are told to use is not there."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere0")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "nowhere0")
    found = only(hardware.ranks())
    assert found.state == "problem"
    assert "cannot exchange" in found.found
    assert "_SOCKET_IFNAME (now nowhere0)" in found.do


def test_ranks_of_a_step_whose_first_node_has_no_address(monkeypatch):
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    found = only(hardware.ranks(["false"]))
    assert found.state == "problem"
    assert "nowhere1.invalid" in found.found
    assert "environment: {MASTER_ADDR" in found.do


def test_a_rank_whose_gpu_is_hidden(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    found = only(hardware._gpus(1))
    assert "sees 1" in found.found
    assert "--gpus-per-node" in found.do


# places


def test_a_folder_that_is_well_is_left_as_it_was(tmp_path):
    found = only(places.run_folder(tmp_path / "deep/runs"))
    assert found.state != "problem", found
    assert "locks hold" in found.found
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "runs").touch()
    for path in (tmp_path / "runs", tmp_path / "runs/deeper"):
        found = only(places.run_folder(path))
        assert found.state == "problem"
        assert f"{tmp_path / 'runs'} is no folder" in found.found
        assert "machine.runs" in found.do


def test_a_folder_that_cannot_be_written():
    found = only(places.run_folder(Path("/proc/runs")))  # even root cannot
    assert found.state == "problem"
    assert "/proc cannot be written" in found.found
    assert "machine.runs" in found.do


@pytest.mark.parametrize(
    ("intruder", "said"),
    [
        ("print('visible')", "two processes the same lockf"),
        ("print('kept out')", "it reads nothing"),
        ("raise OSError('stale handle')", "stale handle"),
    ],
)
def test_a_lock_that_does_not_keep_others_out(intruder, said, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "INTRUDER", intruder)
    found = only(places.run_folder(tmp_path))
    assert found.state == "problem"
    assert said in found.found
    assert "Lustre: flock" in found.do


def meeting(*folders, wait):
    """The findings of as many processes, each with its folder."""
    code = (
        "import sys; from pathlib import Path; from unify.doctor.places import meet\n"
        "print(meet(Path(sys.argv[1]) / 'x', *map(int, sys.argv[2:4]), float(sys.argv[4])).state)"
    )
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, folder, str(rank), str(len(folders)), str(wait)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank, folder in enumerate(folders)
    ]
    return [rank.communicate(timeout=120)[0].strip() for rank in ranks]


def test_tasks_of_a_step_meet_in_one_folder(tmp_path):
    assert meeting(tmp_path, tmp_path, tmp_path, wait=60) == ["ok"] * 3
    assert not list(tmp_path.iterdir())


def test_tasks_whose_folders_are_not_one(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert meeting(tmp_path / "a", tmp_path / "b", wait=0.5) == ["problem"] * 2
    found = places.meet(tmp_path / "a/x", 0, 2, wait=0.1)
    assert "nothing of task 1" in found.found
    assert "all nodes share" in found.do


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path):
    mounts = tmp_path / "mounts"
    (tmp_path / "deep").mkdir()
    mounts.write_text(f"disk / ext4 rw 0 0\nserver {tmp_path.resolve()} nfs4 rw 0 0\n")
    assert places._file_system(tmp_path / "deep", mounts) == "nfs4"
    assert places._file_system(Path("/"), mounts) == "ext4"


# tracker


@pytest.fixture
def server():
    """A server that answers /health with the status that is set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.answer if self.path == "/health" else 418)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        yield http
        http.shutdown()


@pytest.mark.parametrize(
    ("answer", "state", "advice"),
    [(200, "ok", ""), (404, "problem", "machine.tracker"), (401, "note", "MLFLOW_TRACKING_")],
)
def test_a_server_that_answers(answer, state, advice, server, tmp_path):
    server.answer = answer
    found = only(places.tracker(f"http://me:pass@127.0.0.1:{server.server_port}/", tmp_path))
    assert found.state == state
    assert advice in found.do


def test_a_port_that_is_closed_and_no_password_said(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://me:hunter2@127.0.0.1:{port}"
    found = only(attempt("tracker", lambda: places.tracker(uri, tmp_path)))
    assert found.state == "problem"
    assert f"127.0.0.1:{port} does not answer" in found.found
    assert "unify sync" in found.do
    assert "hunter2" not in line(found)


def test_a_server_that_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        found = only(places.tracker(uri, tmp_path))
    assert found.state == "problem"
    assert "does not answer" in found.found


def test_databases(tmp_path):
    assert "the first run makes it" in only(places.tracker("", tmp_path)).found
    assert not list(tmp_path.iterdir())
    sqlite3.connect(tmp_path / "mlflow.db").execute("create table a (b)").connection.close()
    assert only(places.tracker("", tmp_path)).state == "ok"
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    broken = only(places.tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path))
    assert broken.state == "problem"
    assert "not a database" in broken.found


def test_trackers_that_are_no_server(tmp_path):
    assert only(places.tracker("none", tmp_path)).state == "ok"
    folder = only(places.tracker("./mlruns", tmp_path))
    assert folder.state == "problem"
    assert "sqlite:///" in folder.do
    assert only(places.tracker("postgresql://me:pass@host/db", tmp_path)).state == "note"


# this host


def test_a_name_that_nobody_knows():
    found = places._resolved("nowhere.invalid")
    assert found.state == "note"
    assert "nowhere.invalid" in found.found
    assert "GLOO_SOCKET_IFNAME" in found.do
    assert "MASTER_ADDR" in found.do
    assert places._resolved("localhost").state == "ok"


# SLURM


def test_a_machine_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(slurm.cluster({})).state == "ok"
    inside = only(slurm.cluster({"SLURM_JOB_ID": "7"}))
    assert inside.state == "note"
    assert "container" in inside.do


def test_partitions_are_shown(cluster):
    found = cluster(CALM)
    assert found["slurm"].found == (
        "24.05.1: main* (4 nodes, at most 2-00:00:00, gpu:h100:4), hi (1 nodes, at most 1:00, down)"
    )
    assert found["preemption"].state == "ok"


def test_preemption_without_notice(cluster):
    found = cluster(PREEMPTS)["preemption"]
    assert found.state == "note"
    assert "without notice" in found.found
    for remedy in ("preempt_send_user_signal", "GraceTime", "logging.checkpoint_every"):
        assert remedy in found.do


def test_notice_needs_time(cluster):
    hasty = cluster(SIGNALS, grace=0)["preemption"]
    assert hasty.state == "note"
    assert "GraceTime of main is 0" in hasty.found
    assert cluster(SIGNALS, grace=60)["preemption"].found.endswith("with notice: main 60 s")
    assert "sacctmgr" in cluster({**SIGNALS, "PreemptType": "preempt/qos"})["preemption"].do
    assert cluster({**PREEMPTS, "PreemptMode": "GANG,SUSPEND"})["preemption"].state == "ok"


@pytest.mark.parametrize(
    ("sinfo", "said"),
    [
        ("echo 'error: x' >&2; echo 'Unable to contact slurm controller' >&2; exit 1", "Unable to"),
        ("exec sleep 600", "does not answer within"),
    ],
)
def test_a_controller_that_does_not_answer(sinfo, said, cluster, tmp_path, monkeypatch):
    cluster(CALM)
    if "sleep" in sinfo:
        monkeypatch.setattr(slurm, "SECONDS", 0.5)
    script(tmp_path / "bin", "sinfo", sinfo)
    found = only(slurm.cluster({}))
    assert found.state == "problem"
    assert said in found.found
    assert "SLURM_CONF" in found.do


def test_half_a_slurm(tmp_path, monkeypatch):
    script(tmp_path / "bin", "srun", "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = only(slurm.cluster({}))
    assert found.state == "problem"
    assert "sinfo" in found.found


def test_a_step_is_a_world_of_ranks():
    assert slurm.job({}) == []
    outside = only(slurm.job({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}))
    assert "srun unify doctor" in outside.do
    world = only(slurm.job(STEP))
    assert "rank 1 of 4 of job 7" in world.found
    assert "of 2 nodes" in world.found
    _, cores = slurm.job({**STEP, "SLURM_CPUS_PER_TASK": "100000"})
    assert "of the 100000 cores" in cores.found
    assert "--cpus-per-task=100000" in cores.do


# the whole


def test_a_check_that_hangs_or_fails_is_a_finding():
    hung = only(attempt("disk", lambda: time.sleep(600), limit=0.1))
    assert (hung.name, hung.state) == ("disk", "problem")
    assert "did not end" in hung.found
    failed = only(attempt("disk", lambda: [][0]))
    assert "IndexError" in failed.found


def test_a_line_says_what_and_below_it_what_to_do():
    assert line(Finding("torch", "ok", "2.15")) == "ok       torch         2.15"
    shown = line(Finding("runs", "problem", "full", "free some")).splitlines()
    assert shown == ["PROBLEM  runs          full", "         -> free some"]


def doctor(tmp_path, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "unify.cli", "doctor", "--runs", tmp_path / "runs", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr
    return done


def test_all_of_it_on_this_machine(tmp_path):
    fake_slurm(tmp_path / "bin", CALM)
    done = doctor(tmp_path, "--json", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    told = json.loads(done.stdout)
    assert {"torch", "lightning"} <= told["environment"]["packages"].keys()
    states = {f["name"]: f["state"] for f in told["findings"]}
    for name in ("python", "packages", "torchvision", "cpu", "attention", "tracker", "slurm"):
        assert states[name] == "ok", told["findings"]
    assert states.get("gloo", states.get("nccl")) == "ok", told["findings"]
    assert all(f["do"] for f in told["findings"] if f["state"] != "ok")
    assert done.returncode == int("problem" in states.values())


def test_a_torch_that_cannot_be_imported_hides_nothing_else(tmp_path):
    (tmp_path / "path/torch").mkdir(parents=True)
    broken = "raise OSError('libcudart.so.99: cannot open')"
    (tmp_path / "path/torch/__init__.py").write_text(broken)
    before = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    done = doctor(tmp_path, PYTHONPATH=os.pathsep.join([str(tmp_path / "path"), *before]))
    assert done.returncode == 1
    shown = done.stdout
    assert shown.count("libcudart.so.99") >= 4
    assert "PROBLEM  torchvision" in shown
    assert "PROBLEM  ranks         not checked: OSError: libcudart" in shown
    for name in ("packages", "runs", "tracker", "open files"):
        assert f"\nok       {name:<13} " in shown or f"\nnote     {name:<13} " in shown
