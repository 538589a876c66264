"""A database of MLflow, made once: its migrations take seconds."""

import shutil

import pytest

from unify.tracking.mlflow_store import import_mlflow, make_database


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """An empty database of MLflow, to be copied."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    import_mlflow()
    make_database(path)
    return path


@pytest.fixture
def runs(tmp_path, database):
    """A folder of runs that has its database."""
    shutil.copy(database, tmp_path / "mlflow.db")
    return tmp_path
