"""Micro-steps: an optimizer step's rows, cut into parts whose gradients are accumulated."""

from unify.schema.experiment import Machine


def accumulation(tasks: dict[str, int], machine: Machine, group: int = 1) -> int:
    """The least number of micro-steps that hold at most `micro_batch` rows per device each.

    Every task's rows divide evenly over micro-steps and devices, so that the mean of the
    micro-steps' gradients is the gradient of the step.

    Args:
        tasks: rows of each task in one optimizer step, over all devices.
        group: rows whose losses depend on each other, never split (`Trainable.group`).

    Raises ValueError if no number of micro-steps does.
    """
    devices = machine.devices * machine.nodes
    whole = devices * group
    for task, n in tasks.items():
        if group > 1 and n % whole:
            raise ValueError(
                f"data.tasks.{task} is {n} rows, but the model keeps groups of {group} rows "
                f"together on each of {devices} device(s); make it a multiple of {whole} "
                "or change model.group"
            )
    if not machine.micro_batch:
        return 1
    rows = sum(tasks.values())
    for parts in range(1, rows + 1):
        shares = parts * devices
        divides = all(n % (shares * group) == 0 for n in tasks.values())
        if divides and rows // shares <= machine.micro_batch:
            return parts
    raise ValueError(
        f"machine.micro_batch is {machine.micro_batch}, but no number of micro-steps divides "
        f"data.tasks {tasks} over {devices} devices into so few rows"
        f"{f' without splitting groups of {group} (model.group)' if group > 1 else ''}; make the "
        "tasks' rows share a larger divisor or raise micro_batch"
    )
