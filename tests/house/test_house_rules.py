"""The house rules of CONTRIBUTING.md that a syntax tree can hold."""

import ast
import re

import pytest
from places import ROOT
from source_tree import (
    files_of_tests,
    functions,
    imported_modules,
    lines_of_code,
    product_files,
    tree_of,
)

MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 300, 40
# Files that are written for one device: what trains a model knows of ranks, a model does not.
FOR_ONE_DEVICE = ("unify/nn", "paradigms", "tokenizers")
CONTRACTS = ("batch", "noise", "flow", "sampling", "tokenizer", "paradigm")
OF_RANKS = re.compile(
    r"(.*\bdistributed|lightning|pytorch_lightning|lightning_fabric|lightning_utilities)(\.|$)"
)
RANK_NAMES = {
    *("distributed", "rank", "ranks", "local_rank", "global_rank", "world_size"),
    *("get_rank", "get_world_size", "all_reduce", "all_gather", "broadcast", "barrier"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"),
}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def for_one_device():
    roots = [ROOT / name for name in FOR_ONE_DEVICE]
    contracts = [ROOT / "unify" / f"{name}.py" for name in CONTRACTS]
    return [p for p in product_files() if p in contracts or any(r in p.parents for r in roots)]


def names_in(path):
    """Identifiers of code: names, attributes and arguments; and strings, as of environ["RANK"]."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_files_are_short():
    counts = {name_of(path): len(path.read_text().splitlines()) for path in product_files()}
    assert {k: n for k, n in counts.items() if n > MOST_LINES_OF_A_FILE} == {}


def test_functions_are_short():
    result = {
        f"{name_of(path)}:{function.lineno} {function.name}": lines_of_code(function)
        for path in product_files()
        for function in functions(path)
    }
    assert {k: n for k, n in result.items() if n > MOST_LINES_OF_A_FUNCTION} == {}


@pytest.mark.parametrize("path", for_one_device(), ids=name_of)
def test_models_know_nothing_of_ranks(path):
    assert [name for name in imported_modules(path) if OF_RANKS.match(name)] == []
    assert RANK_NAMES & set(names_in(path)) == set()


RANKED = [
    "import torch\ntorch.distributed.get_world_size()",
    "import torch.distributed as dist",
    "from torch import distributed",
    "from ..distributed import ranks",
    "from unify import distributed",
    "from pytorch_lightning import Trainer",
    "from torchmetrics.utilities.distributed import gather_all_tensors",
    "import os\nos.environ['RANK']",
    "def f(model):\n    return model.trainer.global_rank",
]


@pytest.mark.parametrize("code", RANKED)
def test_a_model_that_asks_for_ranks_is_seen(tmp_path, code):
    path = tmp_path / "model.py"
    path.write_text(code)
    imported = [name for name in imported_modules(path) if OF_RANKS.match(name)]
    assert imported or RANK_NAMES & set(names_in(path))


LOADERS = {"import_module", "__import__", "exec", "eval", "spec_from_file_location"}
MAY_LOAD = {"unify/config/annotations.py", "unify/support/user_files.py"}  # classes that YAML names


def test_modules_are_imported_by_import_statements():
    """Otherwise the linter of imports would not see them. `model.eval()` is a method."""
    loading = []
    for path in product_files():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call):
                own = node.func.id if isinstance(node.func, ast.Name) else None
                attribute = node.func.attr if isinstance(node.func, ast.Attribute) else None
                if own in LOADERS or attribute in LOADERS - {"eval", "exec"}:
                    loading.append(name_of(path))
    assert set(loading) - MAY_LOAD == set()


def test_every_folder_is_a_package():
    """The linter of imports does not enter a folder without `__init__.py`."""
    folders = {path.parent for path in product_files()} - {ROOT / "paradigms", ROOT / "tokenizers"}
    assert [name_of(f) for f in folders if not (f / "__init__.py").exists()] == []


def test_public_definitions_of_the_contracts_have_docstrings():
    bare = [
        f"{name_of(path)}: {node.name}"
        for path in product_files()
        if path.parent == ROOT / "unify"
        for node in tree_of(path).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert bare == []


def private_definitions():
    """Private functions, methods and attributes of the product -> the files that define them."""
    result = {}
    for path in product_files():
        for node in ast.walk(tree_of(path)):
            name = None
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                name = node.name
            elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
                name = node.id if isinstance(node, ast.Name) else node.attr
            if name and name.startswith("_") and not name.startswith("__") and name != "_":
                result.setdefault(name, set()).add(path.stem)
    return result


def test_tests_use_no_private_member_of_another_module():
    private, used = private_definitions(), []
    for path in files_of_tests():
        own = path.stem.removeprefix("test_")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute):
                name, base = node.attr, node.value
                if isinstance(base, ast.Name) and base.id in ("self", "cls"):
                    continue
            elif isinstance(node, ast.alias):
                name = node.name
            else:
                continue
            if name in private and own not in private[name]:
                used.append(f"{name_of(path)}:{node.lineno} {name}")
    assert used == []


def test_names_of_tests_are_sentences_without_numbers_of_a_list():
    numbered = [
        f"{name_of(path)}: {function.name}"
        for path in files_of_tests()
        for function in functions(path)
        if re.match(r"test_\d{1,2}[a-z]?_(?!percent)", function.name)
    ]
    assert numbered == []
