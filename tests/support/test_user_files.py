"""Python files of a user are run once, and only if they are trusted."""

import pytest

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
