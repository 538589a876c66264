"""Checks of places: the folder of runs, the tracker, and the limits of this host."""

import errno
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

from unify.doctor.finding import Finding, cause, seat, within
from unify.support.addresses import kind_of, secret_in, sqlite_path
from unify.support.atomic_files import write_atomically

GIB = 2**30
FULL = (errno.ENOSPC, errno.EDQUOT)
OF_THIS_NODE = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "ramfs", "overlay")
FLEETING = ("tmpfs", "ramfs", "overlay")
ELSEWHERE = "put `machine.runs` elsewhere"
SECONDS = 2.0  # that a tracking server may take

# Another process: prints the file's text, then whether the lock of this one keeps it out.
INTRUDER = """
import errno, fcntl, sys
with open(sys.argv[1], "r+") as file:
    print(file.read())
    try:
        getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        print("kept out")
"""


def run_folder(folder: Path) -> list[Finding]:
    """Space, whole writes, renames and locks, tried where `folder` is or would be made."""
    nearest = _existing(folder)
    if not nearest.is_dir():
        return [Finding("runs", "problem", f"{nearest} is no folder", f"remove it, or {ELSEWHERE}")]
    try:
        with TemporaryDirectory(prefix=".doctor-", dir=nearest, ignore_cleanup_errors=True) as name:
            trouble = _replacing_problem(Path(name)) or _locking_problem(Path(name))
    except OSError as error:
        do = "free space, or ask for more" if error.errno in FULL else "get the right to write"
        found = f"{nearest} cannot be written: {error.strerror}"
        return [Finding("runs", "problem", found, f"{do}, or {ELSEWHERE}")]
    return [trouble or _space(folder, nearest)]


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    nearest = path.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    return nearest


def _replacing_problem(scratch: Path) -> Finding | None:
    """Replace a file and move a folder, both flushed to disk, as checkpoints are written."""
    (scratch / "staging").mkdir()
    for content in (b"old", os.urandom(2**20)):
        write_atomically(scratch / "staging" / "file", content)
    os.rename(scratch / "staging", scratch / "step")
    if (scratch / "step" / "file").read_bytes() == content:
        return None
    found = f"{scratch.parent}: a file that was replaced reads otherwise than it was written"
    return Finding("runs", "problem", found, f"do not trust this file system: {ELSEWHERE}")


def _locking_problem(scratch: Path) -> Finding | None:
    """Try both locks in use: lockf on a run that is written, flock on one being sent."""
    import fcntl

    for kind in ("lockf", "flock"):
        path = scratch / kind
        path.write_text("visible")
        with path.open("r+") as file:
            try:
                getattr(fcntl, kind)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                return _lock_problem(scratch.parent, f"has no {kind} ({error.strerror})")
            command = [sys.executable, "-c", INTRUDER, str(path), kind]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode or "visible" not in done.stdout:
            reason = (done.stderr.strip().splitlines() or ["it reads nothing"])[-1]
            return _lock_problem(scratch.parent, f"is not the same to another process: {reason}")
        if "kept out" not in done.stdout:
            return _lock_problem(scratch.parent, f"gives two processes the same {kind}")
    return None


def _lock_problem(folder: Path, found: str) -> Finding:
    do = f"mount it with locks (Lustre: flock; NFS: without nolock and local_lock), or {ELSEWHERE}"
    return Finding("runs", "problem", f"{folder} {found}: two jobs could write one run", do)


def _space(folder: Path, nearest: Path) -> Finding:
    kind, free = _file_system(nearest), shutil.disk_usage(nearest).free / GIB
    entries = os.statvfs(nearest)
    text = f"{folder}: {kind or 'file system'}, {free:.0f} GiB free; writes, renames, locks hold"
    if free < 1 or (entries.f_files and entries.f_favail < 1000):
        found = f"{folder}: {free:.1f} GiB and {entries.f_favail} files free"
        return Finding("runs", "problem", found, f"free some, or {ELSEWHERE}")
    if kind in FLEETING:
        do = f"keep runs that are to stay on a disk or a volume: {ELSEWHERE}"
        return Finding("runs", "note", f"{text}; {kind} goes with the machine or container", do)
    if shutil.which("srun") and kind in OF_THIS_NODE:
        do = f"for jobs on other nodes, {ELSEWHERE}: on a file system that all nodes share"
        return Finding("runs", "note", f"{text}; {kind} is this node's own, as a rule", do)
    if free < 20:
        do = "a large model's checkpoint may not fit: logging.keep_checkpoints, or free some"
        return Finding("runs", "note", text, do)
    return Finding("runs", "ok", text)


def _file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Type of the file system (ext4, nfs4, lustre); empty where the system does not say."""
    if not mounts.exists():
        return ""
    kinds = {row[1]: row[2] for row in map(str.split, mounts.read_text().splitlines())}
    places = [folder.resolve(), *folder.resolve().parents]
    return next((kinds[str(p)] for p in places if str(p) in kinds), "")


def seen_by_all(folder: Path) -> list[Finding]:
    """Check, in a step of several tasks, that all see one folder and that locks hold."""
    here, world = seat()
    if world.size == 1:
        return []
    keys = ("SLURM_JOB_ID", "SLURM_STEP_ID", "MASTER_PORT")
    step = "-".join(here.get(key, "") for key in keys)
    return [meet(_existing(folder) / f".doctor-{step}", world.rank, world.size)]


def meet(place: Path, rank: int, size: int, wait: float = 60.0) -> Finding:
    """Check that all ranks see one folder and that its locks hold.

    Every rank puts a file into `place` and waits up to `wait` seconds for those of all `size`
    ranks; the first holds a lock until all have tried it.
    """
    import fcntl

    place.mkdir(exist_ok=True)
    with (place / "lock").open("a") as lock:
        if rank == 0:
            fcntl.lockf(lock, fcntl.LOCK_EX)
        (place / f"{rank}.here").touch()
        absent = _await([place / f"{r}.here" for r in range(size)], wait)
        kept_out = True
        if rank and not absent:
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                kept_out = False
        (place / f"{rank}.done").touch()
        if rank == 0 and not absent:
            _await([place / f"{r}.done" for r in range(size)], wait)
    if rank == 0 or absent:
        shutil.rmtree(place, ignore_errors=True)
    if absent:
        found = f"{place.parent}: nothing of task {', '.join(p.stem for p in absent)} to be seen"
        do = f"{ELSEWHERE}: on a file system that all nodes share"
        return Finding("shared", "problem", f"{found} after {wait:g} s", do)
    if not kept_out:
        return _lock_problem(place.parent, "gives tasks of a step the same lockf")
    return Finding("shared", "ok", f"{place.parent} is one folder to all {size} tasks, with locks")


def _await(paths: list[Path], seconds: float) -> list[Path]:
    """Wait for files; returns those that have not come."""
    deadline = time.monotonic() + seconds
    while absent := [p for p in paths if not p.exists()]:
        if time.monotonic() > deadline:
            break
        os.listdir(paths[0].parent)  # makes a network file system look again
        time.sleep(0.1)
    return absent


def tracker(setting: str, runs: Path) -> list[Finding]:
    """Check that MLflow answers where `machine.tracker` says; nothing is written there."""
    from unify.tracking.mlflow_process import store_uri

    if setting == "none":
        return [Finding("tracker", "ok", "none: the journal stays in the run folder")]
    if held := secret_in(setting):
        found, _, do = held.partition("; ")
        return [Finding("tracker", "problem", f"the address is refused: {found}", do)]
    uri = store_uri(setting, runs)
    kind = kind_of(uri)
    if kind == "sqlite":
        return [_database(uri, Path(sqlite_path(uri)))]
    if kind == "server":
        return [_server(uri)]
    if kind == "folder":
        do = "machine.tracker=sqlite:///absolute/path/mlflow.db, or the address of a server"
        return [Finding("tracker", "problem", f"{uri}: MLflow refuses folders as stores", do)]
    do = "run one short experiment, and look at its tracking.log"
    found = f"{uri}: not tried, {uri.partition(':')[0]} needs its own client"
    return [Finding("tracker", "note", found, do)]


def _database(uri: str, path: Path) -> Finding:
    nearest = _existing(path)
    trouble = "" if os.access(nearest, os.W_OK) else f"{nearest} may not be written"
    try:
        if path.exists():
            with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
                database.execute("select name from sqlite_master").fetchall()
    except sqlite3.Error as error:
        trouble = cause(error)
    if trouble:
        do = "mend or move that file, or name another machine.tracker; `unify sync` sends later"
        return Finding("tracker", "problem", f"{uri}: {trouble}", do)
    return Finding("tracker", "ok", f"{uri}{'' if path.exists() else ' (the first run makes it)'}")


def _server(uri: str) -> Finding:
    health = f"{uri.rstrip('/')}/health"
    do = "start it, or correct machine.tracker; runs train without it, and `unify sync` sends later"
    try:
        within(SECONDS, lambda: urlopen(health, timeout=SECONDS).close())
    except HTTPError as error:
        if error.code not in (401, 403):
            found = f"{uri} answers, but not as MLflow does: {error.code} at /health"
            return Finding("tracker", "problem", found, do)
        do = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return Finding("tracker", "note", f"{uri} asks who you are ({error.code})", do)
    except TimeoutError:
        return Finding("tracker", "problem", f"{uri} does not answer within {SECONDS:g} s", do)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding("tracker", "problem", f"{uri} does not answer: {reason}", do)
    return Finding("tracker", "ok", f"{uri} answers")


def host() -> list[Finding]:
    """The name that ranks are found by, memory for loader workers, files that may be open."""
    findings = [_address(socket.gethostname())]
    memory = Path("/dev/shm")
    if memory.is_dir():
        free = shutil.disk_usage(memory).free / GIB
        do = "machine.workers=0, or more of it (docker: --shm-size=8g): batches pass through it"
        findings.append(_enough("shared memory", f"{free:.1f} GiB free in {memory}", free >= 1, do))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < 4096
    most = "65536" if hard == resource.RLIM_INFINITY else str(hard)
    do = f"ulimit -n {most} before a run with many loader workers"
    return [*findings, _enough("open files", f"{soft} at once", not few, do)]


def _enough(name: str, found: str, enough: bool, do: str) -> Finding:
    return Finding(name, "ok", found) if enough else Finding(name, "note", found, do)


def _address(name: str) -> Finding:
    try:
        address = within(5.0, lambda: socket.getaddrinfo(name, None))[0][4][0]
    except (OSError, TimeoutError):
        do = (
            "have it put into /etc/hosts or DNS; until then ranks need GLOO_SOCKET_IFNAME (lo on "
            "one machine) and, under SLURM, MASTER_ADDR"
        )
        return Finding("host", "note", f"{name} resolves to no address", do)
    return Finding("host", "ok", f"{name} is {address}")
