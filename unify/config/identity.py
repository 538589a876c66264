"""Identity of a run: the hash of its config, and the runs whose weights it starts from."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unify.config.annotations import locate_class
from unify.config.loading import OVERLAYS
from unify.support.user_code import code_hash

# Top-level keys that are no part of the identity: where a run is computed, and how it is scored.
OUTSIDE_HASH = (
    "machine",
    "logging",
    "tiny",
    "study",
    "name",
    "replicate",
    "needed_seeds",  # which the hashes of the needed runs cover
    "evaluation",
    "image_sampling",
    "text_sampling",
)


class Needed(NamedTuple):
    """An experiment whose weights another starts from: its file, form, and what its seeds add."""

    path: str
    tiny: bool = False
    seed: int = 0
    trains: bool = True  # a part that is trained, or trained with, starts from it
    scores: bool = False  # a part that scores starts from it


def needed_key(weights: Mapping[str, Any]) -> str:
    """The key of a needed run: its path, and the number that its seeds are shifted by."""
    return weights["run"] + (f" seed {weights['seed']}" if weights.get("seed") else "")


def needed_runs(completed: dict[str, Any]) -> dict[str, Needed]:
    """The experiments whose weights a config starts from, by `needed_key`.

    In the order to train them: an experiment comes after those that it needs itself.
    """
    needed: dict[str, Needed] = {}

    def visit(value: Any, scores: bool) -> None:
        children = value.values() if isinstance(value, dict) else value
        for child in children if isinstance(value, (dict, list)) else ():
            visit(child, scores)
        weights = value.get("weights") if isinstance(value, dict) and "class" in value else None
        if isinstance(weights, dict):
            key = needed_key(weights)
            new = Needed(weights["run"], weights.get("tiny", False), weights.get("seed", 0), False)
            run = needed.get(key, new)
            needed[key] = run._replace(scores=True) if scores else run._replace(trains=True)

    kept = {key: value for key, value in completed.items() if key not in OVERLAYS}
    visit({key: value for key, value in kept.items() if key not in OUTSIDE_HASH}, scores=False)
    visit({key: value for key, value in kept.items() if key in OUTSIDE_HASH}, scores=True)
    return needed


def user_files(value: Any) -> dict[str, str]:
    """The Python files that the nodes of a config name, and the hash of the code of each."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {}
    files: dict[str, str] = {}
    for child in value.values():
        files |= user_files(child)
    path, own, _ = str(value.get("class")).rpartition(".py:")
    return files | ({f"{path}.py": code_hash(f"{path}.py")} if own else {})


def weight_folders(value: Any) -> dict[str, str]:
    """The exports that the nodes of a config start from, by folder, with the hash of each.

    As its config.json says: OSError or ValueError if that cannot be read.
    """
    folders: dict[str, str] = {}
    for child in value.values() if isinstance(value, dict) else value:
        folders |= weight_folders(child) if isinstance(child, (dict, list)) else {}
    weights = value.get("weights") if isinstance(value, dict) and "class" in value else None
    if isinstance(weights, str):
        saved = json.loads((Path(weights) / "config.json").read_text(encoding="utf-8"))
        folders[weights] = saved["hash"]
    return folders


def scoring_weights(value: Any, needed_hashes: Mapping[str, str], key: str = "") -> dict[str, str]:
    """The weights of the nodes below `value`, a metric or how a run is scored, by dotted key.

    Each by a hash, as for `config_hash`; empty where it has none or cannot be read, which whoever
    loads it says.
    """
    found: dict[str, str] = {}
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for name, child in children:
        if isinstance(child, (dict, list)):
            found |= scoring_weights(child, needed_hashes, f"{key}.{name}" if key else str(name))
    weights = value.get("weights") if isinstance(value, dict) and "class" in value else None
    if isinstance(weights, dict):
        named = [weights["part"]] if "part" in weights else []
        found[key] = " ".join([needed_hashes.get(needed_key(weights), ""), *named])
    elif weights is not None:
        try:
            found[key] = weight_folders({"class": None, "weights": weights})[weights]
        except (OSError, ValueError, LookupError, TypeError):
            found[key] = ""
    return found


def trained_code(completed: Mapping[str, Any]) -> dict[str, str]:
    """`user_files` of what decides the training."""
    return user_files({k: v for k, v in completed.items() if k not in OUTSIDE_HASH})


def _definition(name: str) -> int:
    """`definition` of a shipped class, which is raised where its equations change; 0 of others."""
    return 0 if ".py:" in name else getattr(locate_class(name, trusted=True), "definition", 0)


def _later(name: str) -> dict[str, Any]:
    """Arguments that a shipped class got later, with what they are where nobody names them."""
    return {} if ".py:" in name else getattr(locate_class(name, trusted=True), "later", {})


def _inherits_fingerprint(name: str) -> bool:
    """True if a source's class is of a user, and its `fingerprint` of `unify`."""
    lineage = locate_class(name, trusted=True).__mro__
    own = next((cls for cls in lineage if "fingerprint" in vars(cls)), lineage[0])
    return ".py:" in name and own.__module__.partition(".")[0] == "unify"


def trained_keys(completed: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a config that decide what is trained.

    Those that came later are there only where they are not at their default, so that hashes stay.
    The trunk of a cool-down is left out: without it the same is trained.
    """
    kept = {key: value for key, value in completed.items() if key not in OUTSIDE_HASH}
    optimizer, cooldown = kept.get("optimizer"), kept.pop("cooldown", None)
    if isinstance(optimizer, dict) and optimizer.get("schedule") == "cosine":
        kept["optimizer"] = {key: value for key, value in optimizer.items() if key != "schedule"}
    if cooldown is not None:
        kept["cooldown"] = {key: value for key, value in cooldown.items() if key != "trunk"}
    return kept


def config_hash(
    completed: dict[str, Any], needed_hashes: Mapping[str, str], data_fingerprint: str
) -> str:
    """The first 10 hex digits of SHA-256 over all that decides what is trained.

    Hashed is the completed config without OUTSIDE_HASH, so machine and evaluation may change, and
    without paths, so files may move: a needed run counts by its own hash, a weights folder by the
    hash in its config.json, the data source by its fingerprint, a class in a Python file by the
    names of file and class and by the code (support/user_code.py). A shipped class whose equations
    changed counts by its `definition`, too, and arguments that it got `later` only where they say
    something.

    Args:
        needed_hashes: hashes of the needed runs, by the keys of `needed_runs`.
        data_fingerprint: `Source.fingerprint()` of the data.
    """

    def identity(value: Any) -> Any:
        if isinstance(value, list):
            return [identity(item) for item in value]
        if not isinstance(value, dict):
            return value
        out = {key: identity(item) for key, item in value.items()}
        if "class" in value:
            code = user_files({"class": value["class"]}).values()
            out["class"] = " ".join([os.path.basename(value["class"]), *code])
            if definition := _definition(value["class"]):
                out["definition"] = definition
            for key, plain in _later(value["class"]).items():
                if key in out and out[key] == plain:
                    del out[key]  # what was trained before it came is the same
            weights = value.get("weights")
            if isinstance(weights, dict):
                named = [weights["part"]] if "part" in weights else []
                out["weights"] = " ".join([needed_hashes[needed_key(weights)], *named])
            elif weights is not None:
                out["weights"] = weight_folders({"class": None, "weights": weights})[weights]
        return out

    kept = trained_keys(completed)
    if isinstance(kept.get("data"), dict):
        kept["data"] = dict(kept["data"])
        source = kept["data"].pop("source", None)
        if code := user_files(source):  # of its parts too
            kept["data"]["source"] = sorted(code.values())
            if _inherits_fingerprint(source["class"]):  # which does not know its own arguments
                kept["data"]["arguments"] = source
    text = json.dumps([identity(kept), data_fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
