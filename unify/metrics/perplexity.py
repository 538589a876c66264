"""Text perplexity: exp of the mean negative log-likelihood per token.

<task>/perplexity    of every task with a text target that the run trained on

`n` counts tokens; the interval is over pictures, or over texts where there are none, by the ratio
of their nats to their tokens. Only what was scored is compared: texts as they were cut by
`data.lengths`, of one tokenizer, under a softmax over one alphabet. A paradigm with text and image
codes in one softmax (`ar_vq`) also learns that an answer has no codes: its row stands apart from
the others'.
"""

import math
from dataclasses import dataclass, field

import torch

from unify.analysis.clustered_intervals import ratio_interval
from unify.batch import Batch
from unify.data.source import Split, keys
from unify.distributed.ranks import split_over_ranks
from unify.metrics.metric import (
    Grid,
    Metric,
    Score,
    Subject,
    digest,
    distinct,
    first_records,
    pictures,
)
from unify.noise import Noise
from unify.paradigm import Paradigm
from unify.support.ranges import Count
from unify.tokenizer import TextTokenizer

TEXT_TASKS = frozenset({"text", "caption", "vqa"})


@dataclass
class Likelihoods:
    """Of each row: nats, tokens, and the ids of all its texts as they were cut."""

    totals: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __add__(self, other: "Likelihoods") -> "Likelihoods":
        return Likelihoods(
            self.totals + other.totals, self.counts + other.counts, self.texts + other.texts
        )


class Perplexity(Metric):
    """`<task>/perplexity` of the first `rows` of a split, of every task with a text target that the
    run trained on.

    A bound, for paradigms whose text term is one, is named so in the passport; a paradigm without
    a likelihood has no row. A subclass may name other `tasks` whose target is a text.
    """

    tasks = TEXT_TASKS
    version = 2  # the interval is over pictures
    measures = ("*/perplexity",)

    def __init__(self, rows: Count = 512, split: Split = "test"):
        self.rows, self.split = rows, split

    def check(self, subject: Subject) -> None:
        """ValueError if the split lacks a task; of a model without a likelihood none is scored."""
        if isinstance(subject.model, Paradigm) and subject.model.likelihood != "none":
            super().check(subject)

    @torch.no_grad()
    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        model = subject.model
        if not isinstance(model, Paradigm) or model.likelihood == "none":
            return [], []
        return [self._task(subject, model, task) for task in sorted(subject.tasks & self.tasks)], []

    def _task(self, subject: Subject, model: Paradigm, task: str) -> Score:
        records = first_records(subject.source, task, self.split, self.rows)
        known = [t for t in model.tokenizers().values() if isinstance(t, TextTokenizer)]

        def read(rows: range) -> Likelihoods:
            some = records[rows.start : rows.stop]
            batch = subject.source.task(task).batch(some, subject.lengths).to(model.device)
            noise = Noise.for_batch(subject.seed, 0, batch, model.device)
            made = Likelihoods(texts=as_cut(batch, known))
            for term in model.loss(batch, noise).values():
                if term.total is not None and term.count is not None:
                    made.totals += term.total.double().tolist()
                    made.counts += term.count.tolist()
            return made

        all_rows = sum(split_over_ranks(subject.chunks(len(records)), read), Likelihoods())
        totals, counts = all_rows.totals, all_rows.counts
        mean = math.fsum(totals) / sum(counts)  # nats per token
        # texts of one picture are likely or unlikely together; without one, repeated texts
        shown = pictures(subject.source, task, records)
        rows = distinct(shown if any(shown) else all_rows.texts)
        low, high = ratio_interval(totals, counts, rows) or (None, None)
        passport = {
            "split": self.split,
            "rows": len(records),
            "texts": digest("\n".join([*keys(records), *all_rows.texts]).encode()),
            "likelihood": model.likelihood,
            "text_tokenizer": [tokenizer.content_hash() for tokenizer in known],
            "alphabet": f"{model.alphabet} ids" if model.alphabet else "not stated",
        }
        return Score(
            f"{task}/perplexity",
            math.exp(mean),
            int(sum(counts)),
            None if low is None else math.exp(low),
            None if high is None else math.exp(high),
            passport,
            better="lower",
            unit="tokens",
        )


def as_cut(batch: Batch, tokenizers: list[TextTokenizer]) -> list[str]:
    """The texts of each row as a model reads them: ids, cut to the column's length.

    Without a text tokenizer, the whole texts and the lengths that they are cut to.
    """
    columns = [column for column in batch.segments if column.kind == "text"]
    parts: list[list[str]] = []
    for column in columns:
        if not tokenizers:
            parts.append([f"{column.length}: {text}" for text in column.texts])
        for tokenizer in tokenizers:
            before = tokenizer.cut
            ids, valid = tokenizer.encode(column.texts, column.length)
            tokenizer.cut = before  # what training had cut is its own
            parts.append([str(row[kept].tolist()) for row, kept in zip(ids, valid, strict=True)])
    return [" ".join(row) for row in zip(*parts, strict=True)]
