"""`unify plan`: what is trained, its cost, and whether it fits. Heavy imports are inside."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from unify.commands.arguments import Json, Overrides, Tiny, emit
from unify.costs.gpu_specs import CPU, GPUS, MFU, WRITTEN, gpu_of
from unify.support.fast_imports import fast_imports
from unify.support.terminal import echo


def plan(
    file: Annotated[Path, typer.Argument(help="Study or experiment YAML.")],
    overrides: Overrides = None,
    tiny: Tiny = False,
    measure: Annotated[bool, typer.Option(help="Time a few steps of every arm.")] = False,
    gpus: Annotated[
        int, typer.Option(min=0, help="Ranks: does it fit, how long does it take?")
    ] = 0,
    gpu: Annotated[str, typer.Option(help=f"With --gpus: {', '.join([*GPUS, CPU])}.")] = "",
    mfu: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the GPU's peak that a step reaches.")
    ] = MFU,
    write_gbps: Annotated[
        float,
        typer.Option(min=0.001, max=1e6, help="GB/s to the file system, of all ranks together."),
    ] = WRITTEN,
    cluster: Annotated[
        str,
        typer.Option(help="Its `machine` and `notice`: a file, or one in experiments/clusters."),
    ] = "",
    as_json: Json = False,
) -> int:
    """Show what would be trained, its cost and what exists; train nothing."""
    if bool(gpus) != bool(gpu):
        raise ValueError("--gpus says how many and --gpu which: give both, or neither")
    if gpu:
        gpu_of(gpu)  # a wrong name is refused before anything is counted
    with fast_imports():
        from unify.costs.gpu_forecast import Hardware
        from unify.study.jobs import StudyRequest
        from unify.study.plan import plan as make_plan

    words, notice, at_once = _on_cluster(cluster, overrides or [])
    request = StudyRequest(str(file), words, tiny)
    planned = make_plan(request, measure)
    hardware = Hardware(gpus, gpu, mfu, write_gbps * 1e9, notice) if gpus else None
    _print(planned, hardware, as_json, request, at_once)
    return 0


def _print(planned: Any, hardware: Any, as_json: bool, request: Any, at_once: int) -> None:
    """Print a plan, and its forecast where there is hardware to forecast for."""
    from unify.cluster.missing_jobs import missing_jobs
    from unify.cluster.wall_clock import job_seconds, wall_clock
    from unify.costs.gpu_forecast import forecasts
    from unify.costs.gpu_forecast_text import lines as forecast_lines
    from unify.study.plan_table import as_data, lines

    content, text = as_data(planned), lines(planned)
    if hardware:
        by_arm = forecasts(planned.arms, planned.costs, hardware)
        content["forecast"] = {arm: forecast.plain() for arm, forecast in by_arm.items()}
        text += ["", *forecast_lines(by_arm, hardware)]
        if hardware.gpu and planned.is_study:
            jobs = missing_jobs(request, planned.study, planned.arms)
            seconds = job_seconds(by_arm, planned.costs, hardware)
            whole = wall_clock(jobs, seconds, hardware.ranks, at_once)
            content["wall_clock"] = asdict(whole)
            text.append(f"the study, {whole.line()}")
    emit(content) if as_json else echo("\n".join(text))


def _on_cluster(name: str, words: list[str]) -> tuple[list[str], float, int]:
    """The overrides, after those of the cluster; its seconds of notice before a kill, and how many
    jobs run at once: without a cluster, one."""
    from unify.schema.cluster import Cluster

    if not name:
        return words, Cluster().notice, 1
    from unify.cluster.submit import load_cluster

    cluster = load_cluster(name)
    own = [f"machine.{key}={json.dumps(value)}" for key, value in cluster.machine.items()]
    return [*own, *words], cluster.notice, cluster.at_once
