"""What a test of this folder imports from a user's file is forgotten: others check that, too."""

import sys

import pytest

from unify.support import executed_files


@pytest.fixture(autouse=True)
def _no_user_files_are_left():
    modules = set(sys.modules)
    yield
    executed_files.forget_since(0)
    for name in set(sys.modules) - modules:
        if "/pytest-" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
