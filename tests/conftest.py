"""Options and fixtures that every test shares."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser):
    parser.addoption(
        "--experiments",
        default=str(ROOT / "experiments"),
        help="folder of experiment YAMLs that the contract tests run on",
    )


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)
