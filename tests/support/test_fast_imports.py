"""Imports without garbage collection."""

import gc

from unify.support.fast_imports import fast_imports


def test_imports_are_quick_and_leave_collection_as_it_was():
    gc.unfreeze()  # what another test has imported so
    assert gc.get_freeze_count() == 0
    with fast_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 1000
    gc.unfreeze()
