"""Use of processor, memory, disk, network and GPUs while a run trains, as MLflow's monitors see it.

MLflow's own thread would keep asking the store whether the run goes on, and never end with one that
is silent; here its monitors are read by the process that sends.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

SECONDS = 10.0  # between two values that are sent


class SystemMetrics:
    """Averages over the whole machine since the last `take`."""

    def __init__(self) -> None:
        self._monitors = [monitor for make in _makers() if (monitor := _made(make)) is not None]
        self.sample()  # the processor's first value is of no time at all
        self.take()

    def sample(self) -> None:
        """Read every monitor once."""
        for monitor in self._monitors:
            monitor.collect_metrics()

    def due(self) -> bool:
        """True once SECONDS have passed since the last `take`."""
        return time.monotonic() - self._taken >= SECONDS

    def take(self) -> dict[str, float]:
        """Values by MLflow's names, e.g. `cpu_utilization_percentage`; starts the next averages."""
        self._taken = time.monotonic()
        values: dict[str, float] = {}
        for monitor in self._monitors:
            values |= {name: float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return values


def _makers() -> list[Callable[[], Any]]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    return [CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor]


def _made(make: Callable[[], Any]) -> Any:
    """A monitor; None for what this machine has not: a GPU, or the library that reads one."""
    try:
        return make()
    except Exception:
        logging.getLogger(__name__).debug("no %s", make.__name__, exc_info=True)
        return None
