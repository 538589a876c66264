"""Findings and a SLURM of shell scripts for the tests of `unify doctor`."""

CALM = {"PreemptType": "preempt/none", "SLURM_VERSION": "24.05.1"}

STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NODELIST": "nowhere[1-2].invalid",
}


def only(result):
    """The one finding, which says what to do unless all is well."""
    (finding,) = result
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
