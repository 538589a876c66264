"""Python files of a user are run once, and only if they are trusted."""

import pickle
import subprocess
import sys

import pytest

from unify.data.workers import Picklable
from unify.support import user_files
from unify.support.user_code import code_of
from unify.support.user_files import loaded_files, module_of_file

COUNTING = "from pathlib import Path\nPath(__file__).with_suffix('.log').open('a').write('x')\n"


def test_a_file_is_run_once_and_then_serves_the_untrusted_as_well(tmp_path):
    path = tmp_path / "parts.py"
    path.write_text(COUNTING)
    with pytest.raises(ValueError, match="is not run: Python files are loaded only for"):
        module_of_file(str(path), trusted=False)
    assert not (tmp_path / "parts.log").exists()
    module = module_of_file(str(path), trusted=True)
    assert module_of_file(str(path), trusted=False) is module
    assert (tmp_path / "parts.log").read_text() == "x"
    assert str(path) in loaded_files()


def test_two_files_of_one_name_are_two_modules(tmp_path):
    modules = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "parts.py"
        path.write_text(f"NAME = {name!r}")
        modules.append(module_of_file(str(path), trusted=True))
    assert [module.NAME for module in modules] == ["a", "b"]


def test_a_file_that_failed_may_be_corrected_and_loaded(tmp_path):
    path = tmp_path / "parts.py"
    path.write_text("1 / 0")
    with pytest.raises(ValueError, match=r"failed with ZeroDivisionError.*correct the file"):
        module_of_file(str(path), trusted=True)
    assert str(path) not in loaded_files()
    path.write_text("DONE = True  # and longer than before")
    assert module_of_file(str(path), trusted=True).DONE


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*nowhere\.py; correct the path"):
        module_of_file(str(tmp_path / "nowhere.py"), trusted=True)


def test_a_process_that_is_started_runs_the_files_as_its_parent_read_them(tmp_path, monkeypatch):
    monkeypatch.setattr(user_files, "_named", [])  # those of other tests may be gone
    (tmp_path / "parts.py").write_text(
        "from pkg.base import Base\nclass Mine(Base):\n    def late(self):\n"
        "        from .last import X\n        return X\n"
    )
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "base.py").write_text("class Base:\n    early = 1\n")
    (tmp_path / "last.py").write_text("X = 1\n")
    module = module_of_file(str(tmp_path / "parts.py"), trusted=True)
    code_of(str(tmp_path / "parts.py"))  # as a run's hash does
    sent = pickle.dumps(Picklable(module.Mine()))
    (tmp_path / "pkg" / "base.py").write_text("class Base:\n    early = 2\n")
    (tmp_path / "last.py").write_text("X = 2\n")
    child = (
        "import pickle, sys; own = pickle.load(sys.stdin.buffer).dataset; "
        "print(own.early, own.late())"
    )
    done = subprocess.run([sys.executable, "-c", child], input=sent, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.split() == [b"1", b"1"]
