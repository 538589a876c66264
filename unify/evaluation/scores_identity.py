"""What the scores of a run depend on, as a hash: stored ones that have another are old."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from unify import __version__
from unify.config import locate_class, needed_key, scoring_weights, user_files
from unify.data.world.streams import VERSION as WORLD_VERSION
from unify.data.world.templates import VERSION as CHECKER_VERSION
from unify.runs.folder import Run
from unify.runs.stored_scores import METRIC_VERSION
from unify.schema.completed import Config

SCORING = ("evaluation", "image_sampling", "text_sampling")  # how a run is scored, in its config


def scores_identity(run: Run, config: Config) -> str:
    """Hash of settings, weights, those of the metrics' own parts, versions, and code of users."""
    hashes = _recorded_hashes(run)
    nodes = [_without_place(_by_hash(node, hashes)) for node in config["evaluation"]]
    versions, more = scoring_versions(config)
    code = user_files([config[key] for key in (*SCORING, "data", "model") if key in config])
    content = [nodes, *(config[key] for key in SCORING[1:]), versions, sorted(code.values())]
    content += [run.weights, __version__, WORLD_VERSION, CHECKER_VERSION, METRIC_VERSION]
    content += more
    if own := scoring_weights({key: config[key] for key in SCORING}, hashes):
        content.append(own)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[
        :12
    ]


def scoring_versions(config: Config) -> tuple[list[int | None], list[object]]:
    """`version` of each metric of `evaluation`, and what some say that they depend on besides."""
    versions = [_metric_version(node) for node in config["evaluation"]]
    more = [own for node in config["evaluation"] if (own := _depends_on(node)) is not None]
    return versions, more


def _recorded_hashes(run: Run) -> Mapping[str, str]:
    """The hashes of the runs that a run starts from and is scored with, by key."""
    needed = run.info.get("needed")
    of_each = needed.items() if isinstance(needed, dict) else ()  # a list, in older versions
    return {key: str(part.get("hash")) for key, part in of_each}


def _without_place(node: Any) -> Any:
    """A metric's node by the name of its class: a Python file may have moved."""
    return {**node, "class": os.path.basename(node["class"])} if isinstance(node, dict) else node


def _by_hash(node: Any, hashes: Mapping[str, str]) -> Any:
    """A node whose `weights` are named by the hash of what was trained, instead of by their run."""
    if isinstance(node, list):
        return [_by_hash(item, hashes) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _by_hash(value, hashes) for key, value in node.items()}
    weights = node.get("weights")
    if isinstance(weights, dict) and "run" in weights and "class" in node:
        kept["weights"] = [hashes.get(needed_key(weights)), weights.get("part")]
    return kept


def _metric_version(node: Any) -> int | None:
    """`Metric.version` of the class that a node names."""
    if not isinstance(node, dict):
        return None
    cls = locate_class(node["class"], trusted=True)
    return getattr(cls, "version", None)


def _depends_on(node: Any) -> object | None:
    """`Metric.depends_on` of a node; None for nothing."""
    if not isinstance(node, dict):
        return None
    ask = getattr(locate_class(node["class"], trusted=True), "depends_on", None)
    return None if ask is None else ask(node)
