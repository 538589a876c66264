"""Each test of this folder begins with no user's file, and leaves none for others to find."""

import sys

import pytest

from unify.support import executed_files


@pytest.fixture(autouse=True)
def _users_files_are_its_own(monkeypatch):
    modules = set(sys.modules)
    executed_files.forget_since(0)
    monkeypatch.setattr("unify.support.user_files._named", [])  # a check reads each of them
    yield
    executed_files.forget_since(0)
    for name in set(sys.modules) - modules:
        if "/pytest-" in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
