"""Classes that a config names."""

import pytest
from config_parts import message

from unify.config import build_recipe, load_recipe, locate_class


def test_one_file_gives_one_class(folder):
    first = locate_class(f"{folder}/parts.py:Model", trusted=True)
    (folder / "link").symlink_to(folder)
    assert locate_class(f"{folder}/link/parts.py:Model", trusted=True) is first
    model = build_recipe(load_recipe(folder / "good.yaml")).model
    assert type(model) is first


@pytest.mark.fault(28)
def test_a_file_that_does_not_import_is_named_with_its_error(folder):
    (folder / "bad.py").write_text("import nothing_of_this_name\n")
    printed = message(folder / "good.yaml", (f"model.class={folder}/bad.py:Model",))
    assert "nothing_of_this_name" in printed
    assert "correct the file" in printed
