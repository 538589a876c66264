"""Options and fixtures that every test shares."""

import pytest
from fault_table import Faults
from places import ROOT


def pytest_addoption(parser):
    parser.addoption(
        "--experiments",
        default=str(ROOT / "experiments"),
        help="folder of experiment YAMLs that the contract tests run on",
    )
    parser.addoption(
        "--record",
        action="store_true",
        help="write the golden losses anew (tests/golden says when)",
    )
    parser.addoption("--faults", help="file that keeps how many faults were injected")
    parser.addoption(
        "--drill", action="store_true", help="inject faults as often as the full matrix does"
    )


def pytest_configure(config):
    config.pluginmanager.register(Faults(config))


def pytest_collection_modifyitems(config, items):
    """Cases marked `drill` run with `--drill` only: others of their test show the same.

    Files with long tests come first: what is left at the end is short, and no worker waits.
    """
    long = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in long)
    left = [item for item in items if "drill" in item.keywords]
    if left and not config.getoption("--drill"):
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if "drill" not in item.keywords]


@pytest.fixture(scope="session")
def often(request):
    """often(3, 100): how many times to inject; the second in a full drill."""
    full = request.config.getoption("--drill")
    return lambda usual, drilled: drilled if full else usual


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)
