"""Files are written by unify/support/atomic_files.py: whole or not at all, in the umask's mode."""

import ast

import pytest
from places import ROOT
from source_tree import product_files, tree_of

HOME = "unify/support/atomic_files.py"
NEW_FOLDER = "into a folder that is new, and gets its name when it is whole"
LOCK = "a lock: its content is nobody's data"
PROBE = "a probe of a temporary folder"
MAY_WRITE = {  # (file, call) -> why it may
    (
        "unify/data/adapters/unfinished.py",
        "open",
    ): "into a folder renamed when it is whole",
    ("unify/data/adapters/columns.py", "ZipFile"): NEW_FOLDER,
    ("unify/data/adapters/unfinished.py", "write_bytes"): "empties the state of such a folder",
    ("unify/data/adapters/target.py", "open"): LOCK,
    ("unify/tracking/silence.py", "open"): "the null device",
    ("unify/tracking/mlflow_store.py", "open"): LOCK,
    ("unify/tracking/mlflow_helper.py", "open"): "a log, appended to",
    ("unify/data/adapters/index.py", "open"): NEW_FOLDER,
    ("unify/data/adapters/index.py", "write_bytes"): NEW_FOLDER,
    ("unify/training/strategies.py", "save"): NEW_FOLDER,
    ("unify/runs/journal.py", "open"): "appends; a line that a crash cut short is dropped",
    ("unify/runs/equal_training.py", "copy"): "links, or copies, into a run that is not finished",
    ("unify/runs/equal_training.py", "copytree"): "links, or copies, into a run not finished",
    ("unify/cluster/requeue.py", "open"): "appends a line",
    ("unify/support/folder_lock.py", "open"): LOCK,
    ("unify/tracking/mlflow_process.py", "open"): "a log, appended to, and a lock",
    ("unify/tracking/mlflow_delivery.py", "open"): LOCK,
    ("unify/doctor/places.py", "write_text"): PROBE,
    ("unify/doctor/places.py", "open"): PROBE,
    ("unify/speed/measure.py", "write_bytes"): PROBE,
    ("unify/speed/measure.py", "write_text"): PROBE,
}
WRITERS = {"write_text", "write_bytes", "savez", "savez_compressed", "save_file", "to_csv"}
WRITERS |= {"savefig", "copy2", "copyfile", "copytree"}
OWNERS = {"save": {"torch", "np", "numpy", "dcp"}, "dump": {"json", "pickle"}, "copy": {"shutil"}}
UNDER_WAY = {"packed", "buffer", "out", "staging"}  # buffers, and the path that `replaced` gives


def writes(tree):
    """(line, name) of each call that writes a file by its path."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        attribute = isinstance(call.func, ast.Attribute)
        name = call.func.attr if attribute else getattr(call.func, "id", "")
        owner = getattr(call.func.value, "id", "") if attribute else ""
        if name in ("open", "ZipFile"):
            if _may_write(call, owner, attribute):
                yield call.lineno, name
        elif any(getattr(argument, "id", "") in UNDER_WAY for argument in call.args[:2]):
            continue
        elif name in WRITERS or owner in OWNERS.get(name, ()):
            yield call.lineno, name


def _may_write(call, owner, method):
    """True if a call of `open`, `Path.open` or `os.open` may write."""
    if owner == "os":
        names = {getattr(node, "attr", "") for node in ast.walk(call)}
        return bool(names & {"O_WRONLY", "O_RDWR", "O_CREAT"}) and "devnull" not in names
    given = [k.value for k in call.keywords if k.arg == "mode"]
    given += call.args[0:1] if method and owner != "io" else call.args[1:2]
    modes = [n.value for n in given if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return any(set("wax+") & set(mode) and len(mode) <= 3 for mode in modes)


def written():
    return {
        (path.relative_to(ROOT).as_posix(), name)
        for path in product_files()
        for _, name in writes(tree_of(path))
    } - {(HOME, "write_bytes")}


def test_no_file_is_written_elsewhere():
    assert written() - MAY_WRITE.keys() == set()


def test_every_exception_is_needed():
    assert MAY_WRITE.keys() - written() == set()


@pytest.mark.parametrize(
    "code",
    [
        "open(path, 'w')",
        "open(path, mode='ab')",
        "path.open('wb')",
        "os.open(path, os.O_RDWR | os.O_CREAT, 0o666)",
        "path.write_text(text)",
        "np.savez(path, x=x)",
        "torch.save(state, path)",
        "figure.savefig(path)",
        "json.dump(content, sink)",
        "shutil.copy(a, b)",
        "save_file(state, folder / name)",
    ],
)
def test_what_writes_a_file_is_seen(code):
    assert list(writes(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ["open(path)", "path.open('rb')", "os.open(path, flags)", "np.savez(buffer, x=x)"],
)
def test_what_reads_or_stays_in_memory_is_not(code):
    assert not list(writes(ast.parse(code)))
