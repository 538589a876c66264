"""A sealed test: prompts that nobody could know before a file was committed.

The number of their stream is the hash of the git commit that last changed the file (the design of a
study, its hypotheses), which a metric's `sealed` names. Whoever changes the file afterwards
asks other prompts. Without it, a metric asks those of the development stream.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seal:
    """The commit that last changed a file, and the stream of prompts that it names."""

    path: str  # within the repository
    commit: str

    @property
    def stream(self) -> int:
        return int(self.commit[:8], 16)

    @property
    def passport(self) -> dict[str, str]:
        """What a score says of its prompts."""
        return {"sealed": f"{self.path} at {self.commit[:12]}"}


def seal_of(path: str) -> Seal:
    """The seal of a file; ValueError unless git has it as it is."""
    file = Path(path)
    if not file.is_file():
        raise _refusal(path, "there is no such file", "name a file that is committed")
    if file.is_symlink():
        raise _refusal(path, "it is a link, and git has but its target's name", "name the target")
    if not file.stat().st_size:
        raise _refusal(path, "it is empty and plans nothing", "write the design into it")
    inside = _git(file, "rev-parse", "--is-shallow-repository")
    if inside is None:
        raise _refusal(path, "it is in no git repository that can be read", "commit it to one")
    name = _git(file, "ls-files", "-z", "--full-name", "--error-unmatch", "--", file.name)
    if name is None:
        raise _refusal(path, "git does not know it", "commit it: git add, git commit")
    name = name.rstrip("\0")
    # not only by status, which a file can be kept out of (--assume-unchanged)
    there = _git(file, "hash-object", "--path", file.name, "--", file.name)
    kept = _git(file, "rev-parse", f"HEAD:{name}")
    if _git(file, "status", "--porcelain", "--", file.name) or (kept and there != kept):
        raise _refusal(path, "it differs from what is committed", "commit or restore it")
    commit = _git(file, "log", "-1", "--format=%H", "--", file.name)
    if not commit:
        raise _refusal(path, "no commit has it", "commit it")
    if inside == "true":
        remedy = "fetch its history: git fetch --unshallow"
        raise _refusal(path, "this clone lacks history, and the commit is a guess", remedy)
    return Seal(name, commit)


def since(path: str, seal: Seal) -> str:
    """Whether a file is as it was at a seal's commit, in words: of a study, what is compared."""
    try:
        own = seal_of(path)
    except ValueError:
        return "not committed as it is"
    asked = ("merge-base", "--is-ancestor", own.commit, seal.commit)
    if _git(Path(path), *asked) is not None:
        return "committed no later"
    return f"changed later, at commit {own.commit[:12]}"


def _refusal(path: str, problem: str, remedy: str) -> ValueError:
    return ValueError(
        f"sealed: {path}: {problem}; sealed prompts are drawn by the hash of the commit that last "
        f"changed the file, so {remedy}"
    )


def _git(file: Path, *arguments: str) -> str | None:
    """What git says in the folder of a file; None where it refuses or is not there."""
    command = ["git", "--literal-pathspecs", "-C", str(file.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
