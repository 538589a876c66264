"""Paradigm cards: parts, costs and masks of an arm (evaluation/paradigm_card.py), as HTML."""

import base64
import io
from typing import Any

from PIL import Image

from unify.answers.run_records import RunRecord
from unify.answers.words import si
from unify.report.html import Html, Node, fold, join, tag

INK = {"t": (29, 95, 194), "b": (196, 84, 10), "i": (156, 53, 135), "-": (200, 200, 196)}
PAPER = (243, 243, 239)
NAMES = {"t": "causal", "b": "both ways", "i": "isolated copy", "-": "padding"}
SIDE = 132  # pixels of a mask on the page


def card(run: RunRecord | None) -> Html | None:
    """Parts, FLOPs by task, and one mask for each backbone and task; None without a card."""
    facts = run.card if run is not None else {}
    if "parts" not in facts:  # of a published run: the tasks alone
        return None
    weights = ", ".join(f"{value:g} {name}" for name, value in facts["loss_weights"].items())
    parts: list[Node] = [
        tag("p", "Loss: ", weights or "not stated", class_="quiet"),
        _bars("Parameters", {k: (v["trainable"], v["total"]) for k, v in facts["parts"].items()}),
        _bars("FLOPs of a step", _flops(facts["tasks"])),
        tag("p", _computed(facts["tasks"]), class_="quiet") if _is_known(facts["tasks"]) else None,
    ]
    for task, each in facts["tasks"].items():
        columns = " → ".join(f"{kind}" for kind, _ in each["columns"])
        parts.append(tag("p", tag("b", task.replace("_", " ")), f": {columns}", class_="quiet"))
        masks = [_mask(name, mask) for name, mask in each["masks"].items()]
        parts.append(tag("div", *masks, class_="masks"))
    return fold("Card: parts, FLOPs, who reads whom", join(parts))


def _flops(tasks: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """(trained, all) FLOPs of a step by task, and those of encoding."""
    by_task = {task: (each["flops"], each["flops"]) for task, each in tasks.items()}
    return {**by_task, "frozen tokenizers": (0.0, sum(each["encoding"] for each in tasks.values()))}


def _is_known(tasks: dict[str, Any]) -> bool:
    """True if the card counts FLOPs of a dense kernel; older cards do not."""
    return all(each.get("computed") for each in tasks.values())


def _computed(tasks: dict[str, Any]) -> str:
    """A sentence on FLOPs of a dense kernel, and the share of the count that is no padding."""
    counted, computed, useful = (
        sum(each.get(key) or 0.0 for each in tasks.values())
        for key in ("flops", "computed", "useful")
    )
    text = f"Of the mask's pairs. A dense attention kernel computes {si(computed)}"
    has_useful = counted > 0 and all(each.get("useful") is not None for each in tasks.values())
    return text + (f"; {useful / counted:.0%} of the count is no padding." if has_useful else ".")


def _bars(title: str, shares: dict[str, tuple[float, float]]) -> Html:
    """One row for each share, (trained, all), of their sum."""
    whole = sum(total for _, total in shares.values())
    if not whole:
        return Html("")
    rows = []
    for name, (trained, total) in shares.items():
        solid = tag("span", style=f"width:{100 * trained / whole:.2f}%", class_="solid")
        faint = tag("span", style=f"width:{100 * (total - trained) / whole:.2f}%", class_="faint")
        bar = tag("span", solid, faint, class_="share")
        figure = f"{si(total)}, {total / whole:.0%}" + ("" if trained else ", frozen")
        names = tag("span", name.replace("_", " "))
        rows.append(tag("li", names, bar, tag("span", figure, class_="quiet")))
    return join([tag("p", title, class_="quiet"), tag("ul", *rows, class_="shares")])


def _mask(name: str, mask: dict[str, Any]) -> Html:
    """A row is a query, a column a key; inked where it reads, in the colour of what the key is."""
    tokens = mask["tokens"]
    count = len(tokens)
    image = Image.new("RGB", (count, count), PAPER)
    for y, row in enumerate(mask["rows"]):
        bits = f"{int(row, 16):0{count}b}"
        for x, bit in enumerate(bits):
            if bit == "1":
                image.putpixel((x, y), INK[tokens[x]])
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    data = base64.b64encode(out.getvalue()).decode()
    alt = f"attention mask of {name or 'the backbone'}, {count} tokens"
    picture = tag("img", src=f"data:image/png;base64,{data}", alt=alt, width=SIDE, height=SIDE)
    kinds = ", ".join(f"{tokens.count(k)} {NAMES[k]}" for k in NAMES if k in tokens)
    return tag("figure", picture, tag("figcaption", f"{name or 'backbone'}: {kinds}"))
