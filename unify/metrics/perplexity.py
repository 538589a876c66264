"""Text perplexity: exp of the mean negative log-likelihood per token, on the test split.

<task>/perplexity    of every task with a text target that the run trained on
"""

import math

import torch

from unify.distributed.ranks import split_over_ranks
from unify.metrics.metric import Grid, Metric, Score, Subject, digest
from unify.noise import Noise
from unify.paradigm import Paradigm
from unify.tokenizer import TextTokenizer

TEXT_TASKS = frozenset({"text", "caption", "vqa"})


class Perplexity(Metric):
    """`<task>/perplexity` of every task with a text target that the run trained on.

    A bound, for paradigms whose text term is one, is named so in the passport; a paradigm without
    a likelihood has no row. A subclass may name other `tasks` whose target is a text.
    """

    tasks = TEXT_TASKS

    def __init__(self, rows: int = 512):
        self.rows = rows

    @torch.no_grad()
    def measure(self, subject: Subject) -> tuple[list[Score], list[Grid]]:
        model = subject.model
        if not isinstance(model, Paradigm) or model.likelihood == "none":
            return [], []
        scores = [self._task(subject, task) for task in sorted(subject.tasks & self.tasks)]
        return scores, []

    def _task(self, subject: Subject, task: str) -> Score:
        model = subject.model
        assert isinstance(model, Paradigm)

        def read(rows: range) -> tuple[list[float], list[int], list[str]]:
            records = [subject.source.record(task, "test", row) for row in rows]
            texts = [str(v) for r in records for v in r.fields.values() if isinstance(v, str)]
            batch = subject.source.task(task).batch(records, subject.lengths).to(model.device)
            noise = Noise.for_batch(subject.seed, 0, batch, model.device)
            totals, counts = [], []
            for term in model.loss(batch, noise).values():
                if term.total is not None and term.count is not None:
                    totals += term.total.double().tolist()
                    counts += term.count.tolist()
            return totals, counts, texts

        available = min(self.rows, subject.source.size(task, "test"))
        parts = zip(*split_over_ranks(subject.chunks(available), read), strict=True)
        totals, counts, all_texts = ([one for some in part for one in some] for part in parts)
        tokens = sum(counts)
        mean = math.fsum(totals) / tokens  # nats per token
        # delta method for a ratio of sums over independent rows
        spread = math.fsum((x - mean * c) ** 2 for x, c in zip(totals, counts, strict=True))
        half = 1.96 * math.sqrt(spread) / tokens
        vocabulary = [t for t in model.tokenizers().values() if isinstance(t, TextTokenizer)]
        passport = {
            "split": "test",
            "rows": len(totals),
            "texts": digest("\n".join(all_texts).encode()),
            "likelihood": model.likelihood,
            "text_tokenizer": [tokenizer.content_hash() for tokenizer in vocabulary],
        }
        value, low, high = (math.exp(x) for x in (mean, mean - half, mean + half))
        name = f"{task}/perplexity"
        return Score(name, value, int(tokens), low, high, passport, better="lower")
