"""A record of what a run was made with: code, versions, hardware, command; never a secret.

Only the environment variables of a list are recorded, and everything recorded passes `redact`.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = [
    "unify-multimodal",
    "torch",
    "torchvision",
    "torchmetrics",
    "lightning",
    "transformers",
    "tokenizers",
    "diffusers",
    "timm",
    "vector-quantize-pytorch",
    "safetensors",
    "omegaconf",
    "webdataset",
    "mlflow",
    "numpy",
    "scipy",
    "pillow",
    "xformers",
    "triton",
]
VARIABLES = [
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "PYTHONHASHSEED",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "NCCL_DEBUG",
    "NCCL_SOCKET_IFNAME",
    "HF_HUB_OFFLINE",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "SLURM_JOB_ID",
    "SLURM_NNODES",
    "SLURM_NTASKS",
    "SLURM_CPUS_PER_TASK",
    "LANG",
    "LC_ALL",
    "TZ",
]
PACKAGE = Path(__file__).parents[1]
DIFF_LIMIT = 1_000_000  # characters

_SECRET_NAME = re.compile(
    r"(^|[._-])(token|secret|password|passwd|pwd|credentials?|api[_-]?key|apikey|access[_-]?key"
    r"|private[_-]?key|auth)($|[._-])",
    re.IGNORECASE,
)
_URL = re.compile(r"(\b[a-zA-Z][\w+.-]*://)([^\s'\"]*@)")  # up to the last @
_HOST_AND_PORT = re.compile(r"(\[[\w:.%]*\]|[\w.-]*)(:\d*)?")
_TOKENS = [
    re.compile(r"\b(hf_|gh[pousr]_|glpat-|sk-|xox[abp]-)[\w-]{16,}"),
    re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(r"\bdapi[0-9a-f]{32}"),  # of Databricks
]
_SECRET_SHAPES = [
    (
        re.compile(
            r"(?i)([?&][\w.-]*(?:token|sig|secret|key|password|credential)[\w.-]*=)[^&\s'\"]+"
        ),
        r"\1***",
    ),
    *((token, "***") for token in _TOKENS),
]


def environment() -> dict[str, Any]:
    """Python, machine, accelerators, package versions, git state, command, allowed variables."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "accelerators": _accelerators(),
        "packages": _versions(),
        "git": git_state(),
        "command": redact_command(sys.argv),
        "variables": {n: redact(os.environ[n]) for n in VARIABLES if n in os.environ},
    }


def git_state(code: Path = PACKAGE) -> dict[str, Any] | None:
    """The commit, whether files differ from it, and untracked files; None outside git."""
    # An installed package may lie inside some other repository, whose commit says nothing about it.
    if _git(code, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    changes = (_git(code, "status", "--porcelain") or "").splitlines()
    return {
        "sha": (_git(code, "rev-parse", "HEAD") or "").strip(),
        "dirty": bool(changes),
        "untracked": [line[3:] for line in changes if line.startswith("??")][:100],
    }


def git_diff(code: Path = PACKAGE) -> str:
    """Uncommitted changes to tracked files, without secrets; empty outside git."""
    if git_state(code) is None:
        return ""
    diff = redact(_git(code, "diff", "--no-ext-diff", "--no-color", "HEAD") or "")
    return diff if len(diff) <= DIFF_LIMIT else diff[:DIFF_LIMIT] + "\n(cut here: too long)\n"


def is_secret(variable: str) -> bool:
    """True for an environment variable whose name is one that secrets have."""
    directory = variable in ("PWD", "OLDPWD")
    return not directory and bool(_SECRET_NAME.search(variable))


def redact(text: str) -> str:
    """The text with `***` for what looks like a secret and for the value of a secret variable."""
    secrets = (v for n, v in os.environ.items() if is_secret(n) and len(v) >= 6)
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, "***")
    text = _URL.sub(_without_user, text)
    for pattern, replacement in _SECRET_SHAPES:
        text = pattern.sub(replacement, text)
    return text


def has_token_shape(text: str) -> bool:
    """True if something in the text has the form in which a service writes its tokens."""
    return any(token.search(text) for token in _TOKENS)


def _without_user(url: re.Match[str]) -> str:
    """scheme://***@host. What is no host and port before the first `/` is half a password."""
    scheme, rest = url[1], url[2]
    start = rest.partition("/")[0]
    if "@" in start:
        return f"{scheme}***@{rest.removeprefix(start.rpartition('@')[0] + '@')}"
    return url[0] if _HOST_AND_PORT.fullmatch(start) else f"{scheme}***@"


def redact_command(arguments: Sequence[str]) -> list[str]:
    """A command line with `--password X`, `--password=X` and `api_key=X` made `***`."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = bool(_SECRET_NAME.search(name)) and (bool(equals) or name.startswith("-"))
        if hide_next and not argument.startswith("-"):
            shown.append("***")
        else:
            shown.append(f"{name}=***" if secret and equals else redact(argument))
        hide_next = secret and not equals
    return shown


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return name[1] if name else platform.processor() or platform.machine()


def _accelerators() -> list[dict[str, Any]]:
    import torch

    devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [{"name": d.name, "memory_gib": round(d.total_memory / 2**30, 1)} for d in devices]


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, errors="replace"
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
