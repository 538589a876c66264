"""`unify data describe`: what is in a folder of shards, or what an experiment trains on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from unify.commands.arguments import Json, emit
from unify.support.fast_imports import fast_imports
from unify.support.stop_protocol import kept_if_interrupted
from unify.support.terminal import echo

WRITES_NOTHING = "a description is written when it is whole; nothing is"


def describe(
    place: Annotated[Path, typer.Argument(help="Folder of shards, or a YAML with `data`.")],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="The page; else NAME.html here.")
    ] = None,
    as_json: Json = False,
    tokenizer: Annotated[
        str, typer.Option(help="Count tokens: `bytes`, a tokenizer.json, or its folder.")
    ] = "",
    sample: Annotated[
        int, typer.Option(min=1, help="Records of each split that are compared in pairs.")
    ] = 2000,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that read pictures.")] = 1,
) -> int:
    """Describe data: counts, sizes, lengths, scripts, copies, overlap of splits, bad records.

    Writes one page; with --json prints the same as JSON, and writes a page only to --to.
    """
    with fast_imports():
        from unify.data.describe.describe import describe as run_describe
        from unify.data.describe.tokens import token_counts
        from unify.report.data_page import write_data_page
        from unify.report.own_files import check_own_page

    file = to if to or as_json else Path(f"{place.absolute().stem}.html")
    if file is not None:
        check_own_page(file)
    counts, named = token_counts(tokenizer)
    reader, about = _opened(place, sample)
    with kept_if_interrupted(WRITES_NOTHING):
        made = run_describe(reader, sample, jobs, counts, lambda text: echo(text, err=True))
    made.facts = {**about, "tokenizer": named, **made.facts}
    if file is not None:
        write_data_page(made, file)
    emit(made.facts) if as_json else echo("\n".join([*_lines(made.facts), f"page: {file}"]))
    return 0


def _opened(place: Path, sample: int) -> tuple[Any, dict[str, Any]]:
    """The reader of a folder of shards, or of the source that a YAML names; what it is."""
    from unify.config import build, complete, load
    from unify.data.describe.shard_reader import ShardReader
    from unify.data.describe.source_reader import SourceReader
    from unify.data.module import Data
    from unify.data.shards import Shards
    from unify.data.source import source_fingerprint
    from unify.schema.experiment import Recipe

    if place.is_dir():
        source, tasks = Shards(str(place)), []
    else:
        node = complete(load(place), Recipe, partial=True).get("data")
        if node is None:
            raise ValueError(f"{place} has no `data`; name a YAML that has, or a folder of shards")
        data = build(node, expect=Data)
        source, tasks = data.source, list(data.tasks)
    about = {
        "name": place.absolute().name,
        "kind": f"{type(source).__module__}.{type(source).__name__}",
        "fingerprint": source_fingerprint(source),
    }
    if type(source) is Shards:
        return ShardReader(source), about
    return SourceReader(source, tasks, sample), about


def _lines(facts: Mapping[str, Any]) -> list[str]:
    """The description in a few lines."""
    kept = "" if facts["whole"] else ", a sample"
    out = [f"{facts['name']}: {facts['records']:,} records{kept}; {facts['bad']['records']:,} bad"]
    if facts["pictures"]:
        side = facts["pictures"]["shorter_side"]
        out.append(f"  pictures, shorter side: {_range(side)} pixels")
    for name, found in facts["texts"].items():
        scripts = ", ".join(f"{script} {n:,}" for script, n in [*found["scripts"].items()][:4])
        out.append(f"  {name}s: {_range(found['characters'])} characters; {scripts}")
        if found["tokens"]:
            out.append(f"  {name}s: {_range(found['tokens'])} tokens ({facts['tokenizer']})")
    return [*out, *(f"  {sentence}" for sentence in facts["notable"])]


def _range(found: Mapping[str, Any]) -> str:
    return f"{found['least']:,} to {found['most']:,}, half at most {found['median']:,}"
