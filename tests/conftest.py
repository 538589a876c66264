"""Options and fixtures that every test shares."""

from pathlib import Path

import pytest
from fault_table import Faults

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser):
    parser.addoption(
        "--experiments",
        default=str(ROOT / "experiments"),
        help="folder of experiment YAMLs that the contract tests run on",
    )
    parser.addoption("--faults", help="file that keeps how many faults were injected")
    parser.addoption(
        "--drill", action="store_true", help="inject faults as often as the full matrix does"
    )


def pytest_configure(config):
    config.pluginmanager.register(Faults(config))


@pytest.fixture(scope="session")
def often(request):
    """often(3, 100): how many times to inject; the second in a full drill."""
    full = request.config.getoption("--drill")
    return lambda usual, drilled: drilled if full else usual


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)
