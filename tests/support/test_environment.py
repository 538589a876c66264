import json
import subprocess
import sys

import pytest

from unify.support import environment as module
from unify.support.environment import environment, git_diff, git_state, redact, redact_command

SECRETS = {
    "HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "session-token-value-123",
    "MLFLOW_TRACKING_PASSWORD": "correct horse battery",
    "WANDB_API_KEY": "0123456789abcdef",
    "OPENAI_API_KEY": "sk-abcdefghijklmnopqrstuvwx",
    "GITHUB_TOKEN": "ghp_abcdefghijklmnopqrstuvwxyz0123",
}


@pytest.fixture
def secrets(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return SECRETS


def clean(text: str) -> bool:
    return not any(value in text for value in SECRETS.values())


def test_a_run_says_where_and_with_what_it_was_made(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    facts = environment()
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "lightning", "mlflow"} <= facts["packages"].keys()
    assert facts["cores"] > 0
    assert facts["memory_gib"] > 0
    assert facts["cpu"]
    assert facts["variables"]["OMP_NUM_THREADS"] == "3"
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.fault(30, times=len(SECRETS) + 2)
def test_no_secret_is_in_it(secrets, monkeypatch):
    monkeypatch.setenv("TZ", "https://user:hunter2@host/zone")  # an allowed name, a bad value
    arguments = [
        "unify",
        "train",
        "--token",
        SECRETS["HF_TOKEN"],
        "machine.tracker=https://me:pw@h",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    text = json.dumps(environment())
    assert clean(text)
    for secret in ("hunter2", "me:pw", "12345"):
        assert secret not in text
    assert "machine.tracker=https://***@h" in text


def test_secrets_go_from_any_text(secrets):
    for value in SECRETS.values():
        assert redact(f"before {value} after") == "before *** after"
    assert redact("sqlite:///runs/mlflow.db") == "sqlite:///runs/mlflow.db"
    assert redact("http://u:p@host:5000/a?b=c") == "http://***@host:5000/a?b=c"
    assert redact("https://tok@host/x") == "https://***@host/x"
    assert "abc" not in redact("https://bucket/x?X-Amz-Signature=abc&part=1")


@pytest.mark.parametrize("shape", ["hf_" + "a" * 30, "AKIA" + "B" * 16, "ghp_" + "c" * 30])
def test_known_shapes_go_without_a_variable(shape):
    assert shape not in redact(f"+ login({shape!r})")


def test_command_line_hides_values_and_keeps_settings():
    hidden = ["--password", "p1", "--db-password=p2", "hub.api_key=p3"]
    shown = redact_command([*hidden, "--verbose", "token"])
    assert shown[:4] == ["--password", "***", "--db-password=***", "hub.api_key=***"]
    assert shown[4:] == ["--verbose", "token"]
    settings = ["model.tokenizer.codes=256", "data.tokens=5", "--tokenizers", "x", "--secret", "-v"]
    assert redact_command(settings) == settings


@pytest.fixture
def repository(tmp_path):
    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *names, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    (tmp_path / "__init__.py").write_text("a = 1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    return tmp_path, git


def test_git_state_and_diff(repository, secrets, monkeypatch):
    folder, git = repository
    sha = git("rev-parse", "HEAD").strip()
    assert git_state(folder) == {"sha": sha, "dirty": False, "untracked": []}
    assert git_diff(folder) == ""
    (folder / "new file.py").write_text("")
    (folder / "__init__.py").write_text(f"a = 2\nlogin({SECRETS['HF_TOKEN']!r})\n")
    assert git_state(folder) == {"sha": sha, "dirty": True, "untracked": ['"new file.py"']}
    diff = git_diff(folder)
    assert "-a = 1\n+a = 2\n" in diff
    assert clean(diff)
    monkeypatch.setattr(module, "DIFF_LIMIT", 20)
    assert len(git_diff(folder)) < 60


def test_an_installed_package_is_not_the_repository_around_it(repository):
    folder, _ = repository
    inside = folder / "site-packages" / "unify"
    inside.mkdir(parents=True)
    (inside / "__init__.py").write_text("")
    assert git_state(inside) is None
    assert git_diff(inside) == ""


def test_git_may_be_missing(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_state(module.PACKAGE) is None
