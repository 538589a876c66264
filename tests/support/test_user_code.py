"""The code of a user's file: its bytes and those of what it imports from beside it, no others."""

import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.data.shapes import Shapes
from unify.support import executed_files
from unify.support.user_code import check_imports, class_code, code_hash, code_of
from unify.support.user_files import FROM_FILE, module_of_file


def write(folder, **files):
    """Files by name, __ for / and without .py."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder / "main.py")


# (dotted name, path); a module imports those after it alone: none waits for itself
MODULES = (
    *(("main", "main.py"), ("near", "near.py"), ("pkg", "pkg/__init__.py")),
    *(("pkg.part", "pkg/part.py"), ("pkg.deep", "pkg/deep/__init__.py")),
    *(("pkg.deep.end", "pkg/deep/end.py"), ("loose.far", "loose/far.py"), ("last", "last.py")),
)


def statement(importer, path, wanted, style):
    """An import of `wanted` in the module `importer`, as people write it."""
    parent, _, name = wanted.rpartition(".")
    depth = len(Path(path).parent.parts) + 1
    return {
        "plain": f"import {wanted}",
        "renamed": f"import {wanted} as other",
        "name": f"from {wanted} import VALUE",
        "of parent": f"from {parent} import {name}" if parent else f"import {wanted}",
        "star": f"from {wanted} import *",
        "relative": f"from {'.' * depth}{parent} import {name}",
        "relative name": f"from {'.' * depth}{wanted} import VALUE",
        "late": f"def f():\n    import {wanted}\nf()",
        "tried": f"try:\n    import {wanted}\nexcept ImportError:\n    pass",
    }[style]


STYLES = (
    *("plain", "renamed", "name", "of parent", "star"),
    *("relative", "relative name", "late", "tried"),
)


@st.composite
def layouts(draw):
    """{path: content}: modules beside each other that import each other in every way."""
    files = {}
    for number, (importer, path) in enumerate(MODULES):
        later = [name for name, _ in MODULES[number + 1 :] if not f"{name}.".startswith(importer)]
        chosen = draw(st.lists(st.sampled_from(later), max_size=2)) if later else []
        lines = [statement(importer, path, w, draw(st.sampled_from(STYLES))) for w in chosen]
        files[path] = "\n".join([*lines, f"VALUE = {number}", ""])
    return files


@settings(max_examples=15, deadline=None)
@given(files=layouts(), changed=st.sampled_from([path for _, path in MODULES]))
def test_the_code_is_what_an_import_runs_and_nothing_beside_it(files, changed):
    with tempfile.TemporaryDirectory() as place:
        folder, other = Path(place).resolve() / "one", Path(place).resolve() / "other"
        for path, text in files.items():
            for each in (folder, other):
                (each / path).parent.mkdir(parents=True, exist_ok=True)
                (each / path).write_text(text + "# changed\n" * (each == other and path == changed))
        before = code_hash(str(folder / "main.py"))
        module = module_of_file(str(folder / "main.py"), trusted=True)
        package = module.__name__.partition(".")[0]
        loaded = [m for name, m in sys.modules.items() if name.startswith(f"{package}.")]
        ran = {Path(m.__file__).relative_to(folder).as_posix() for m in loaded if m.__file__}
        assert set(code_of(str(folder / "main.py"))) == ran
        assert code_hash(str(folder / "main.py")) == before, "the same after it was imported"
        check_imports()
        same = code_hash(str(other / "main.py")) == before
        assert same == (changed not in ran), "each byte counts, of these files alone"


def test_two_folders_with_a_helper_each_keep_both_and_installed_names_stay(tmp_path):
    modules = []
    for name in ("a", "b"):
        text = "import json\nimport helper\nfrom unify.noise import Noise\nVALUE = helper.VALUE"
        file = write(tmp_path / name, main=text, helper=f"VALUE = {name!r}", unify="1 / 0")
        modules.append(module_of_file(file, trusted=True))
    assert [module.VALUE for module in modules] == ["a", "b"]
    assert modules[0].json is sys.modules["json"]
    assert "helper" not in sys.modules


def test_a_file_wins_over_an_installed_module_and_a_bare_folder_does_not(tmp_path):
    file = write(tmp_path, main="import colorsys, yaml", colorsys="OWN = 1", yaml__x="")
    module = module_of_file(file, trusted=True)
    assert module.colorsys.OWN == 1
    assert module.yaml is sys.modules["yaml"]
    assert set(code_of(file)) == {"main.py", "colorsys.py"}


def test_line_ends_and_comments_count_and_the_place_does_not(tmp_path):
    texts = {"a": b"X = 1\n", "b": b"X = 1\n", "crlf": b"X = 1\r\n", "comment": b"X = 1\n#\n"}
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_bytes(text)
    hashes = {name: code_hash(str(tmp_path / name / "main.py")) for name in texts}
    assert hashes["a"] == hashes["b"]
    assert len(set(hashes.values())) == 3


def test_what_is_hashed_is_what_runs_also_if_the_file_changes_in_between(tmp_path):
    file = write(
        tmp_path, main="def late():\n    import helper\n    return helper.X", helper="X = 1"
    )
    module = module_of_file(file, trusted=True)
    before = code_hash(file)
    write(tmp_path, helper="X = 2")
    assert module.late() == 1
    assert code_hash(file) == before


def test_a_corrected_helper_is_read_anew(tmp_path):
    file = write(tmp_path, main="import helper", helper="1 / 0")
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        module_of_file(file, trusted=True)
    write(tmp_path, helper="X = 1")
    assert module_of_file(file, trusted=True).helper.X == 1


LOADED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("loaded", PLACE + "/thing.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""


@pytest.fixture
def forgotten(tmp_path, monkeypatch):
    """Other tests check, too: what one imports is forgotten."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    executed = executed_files.count()
    yield
    executed_files.forget_since(executed)
    for name in [n for n in sys.modules if n == "thing" or n.startswith(FROM_FILE)]:
        if str(tmp_path) in str(sys.modules[name].__dict__.get("__file__")):
            del sys.modules[name]


@pytest.mark.parametrize("place", ["lib", "../sib", "."])
@pytest.mark.parametrize(
    "text",
    [
        "import importlib\nimportlib.import_module('.helper', __package__)",
        "__import__('help' + 'er')",
        "import sys\nsys.path.insert(0, PLACE)\nNAME = 'thing'\n__import__(NAME)",
        "import sys\nsys.path.insert(0, PLACE)\nimport importlib\nimportlib.import_module('thing')",
        LOADED,
        "import runpy\nrunpy.run_path(PLACE + '/thing.py')",
        "exec(open(PLACE + '/thing.py').read())",
        "exec(compile(open(PLACE + '/thing.py').read(), 'thing', 'exec'))",
        "F = PLACE + '/thing.py'\ndef f():\n    exec(compile(open(F).read(), F, 'exec'))\nf()",
    ],
)
def test_code_that_no_import_statement_shows_is_refused(tmp_path, text, place, forgotten):
    folder = tmp_path / "mine"
    file = write(folder, main=text, helper="")
    write((folder / place).resolve(), thing="")
    write(folder, main=text.replace("PLACE", repr(str((folder / place).resolve()))))
    module_of_file(file, trusted=True)
    with pytest.raises(
        ValueError, match=r"(helper|thing)\.py was imported in a way that no import"
    ):
        check_imports()


ELSEWHERE = {
    "text of another ending": "exec(open(PLACE + '/block.inc').read())",
    "an archive": "import sys\nsys.path.insert(0, PLACE + '/lib.zip')\n__import__('zip' + 'ped')",
    "a thread": """
import runpy
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor() as pool:
    pool.submit(runpy.run_path, PLACE + "/thing.py").result()
""",
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_code_of_an_archive_of_another_ending_or_in_a_thread_is_refused(tmp_path, case, forgotten):
    write(tmp_path / "sib", thing="A = 1")
    (tmp_path / "sib" / "block.inc").write_text("A = 1")
    with zipfile.ZipFile(tmp_path / "sib" / "lib.zip", "w") as archive:
        archive.writestr("zipped.py", "A = 1")
    text = ELSEWHERE[case].replace("PLACE", repr(str(tmp_path / "sib")))
    module_of_file(write(tmp_path / "mine", main=text), trusted=True)
    sys.modules.pop("zipped", None)
    with pytest.raises(ValueError, match=r"sib/(block\.inc|lib\.zip|thing\.py) was imported in a"):
        check_imports()


def test_an_import_from_a_sibling_folder_on_the_path_is_refused(tmp_path, forgotten):
    text = "import os, sys\nsys.path.insert(0, os.path.dirname(__file__) + '/../sib')\nimport thing"
    write(tmp_path / "sib", thing="")
    module_of_file(write(tmp_path / "mine", main=text), trusted=True)
    with pytest.raises(ValueError, match=r"sib/thing\.py was imported in a way that no import"):
        check_imports()


def test_what_is_installed_and_what_is_only_read_is_not_refused(tmp_path, forgotten):
    text = "import colorsys, yaml, runpy, dataclasses\nfrom unify.paradigms import transfusion\n"
    text += "OTHER = open(OF).read()\n@dataclasses.dataclass\nclass A:\n    x: int = 0\n"
    write(tmp_path / "sib", thing="1 / 0")
    text = text.replace("OF", repr(str(tmp_path / "sib" / "thing.py")))
    module_of_file(write(tmp_path / "mine", main=text), trusted=True)
    check_imports()


def test_a_class_of_unify_has_no_code_of_a_user_and_another_is_named_with_its_file(tmp_path):
    assert class_code(Shapes) == ""
    file = write(tmp_path, main="from pkg.own import Own", pkg__own="class Own: pass")
    own = module_of_file(file, trusted=True).Own
    name, digest = class_code(own).split()
    assert name == "own.py:Own"
    assert digest == code_hash(str(tmp_path / "pkg" / "own.py"), str(tmp_path))
