"""Several sources as one: shares that hold in every window, an order without state, keys apart."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.data.mixture import WINDOW, Mixture
from unify.data.module import Data
from unify.data.sampler import MicroSteps
from unify.data.source import Record, Source

TASK = "text"


class Numbered(Source):
    """`n` training records of a task, and two of each other split."""

    def __init__(self, n, tasks=(TASK,)):
        self.n, self.served = n, tasks

    @property
    def tasks(self):
        return frozenset(self.served)

    def size(self, task, split):
        return (self.n if split == "train" else 2) * (task in self.served)

    def record(self, task, split, index):
        fields = {"text": f"{split} {index}", "caption": "c", "image": np.zeros((4, 4, 3), "uint8")}
        return Record(f"{split}/{index}", fields)

    def fingerprint(self):
        return f"{self.n:012}"


def sources(*sizes):
    return {f"s{i}": Numbered(n) for i, n in enumerate(sizes)}


def mixed(sizes, weights):
    names = sources(*sizes)
    return Mixture(names, dict(zip(names, weights, strict=True)))


def of_sources(mixture, indices):
    """Which source each index is of, and the index there."""
    ends = np.cumsum([one.n for one in mixture.sources.values()])
    place = np.searchsorted(ends, indices, side="right")
    return place, indices - np.concatenate([[0], ends])[place]


CASES = st.lists(st.tuples(st.integers(25, 500), st.integers(1, 100)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(CASES, st.integers(0, 10**9), st.integers(0, 10**6))
def test_shares_hold_within_a_hundredth_over_any_ten_thousand_rows(cases, seed, start):
    sizes, weights = zip(*cases, strict=True)
    mixture = mixed(sizes, weights)
    rows = mixture.order(TASK, np.arange(start, start + 10_000), seed)
    which, _ = of_sources(mixture, rows)
    for number, weight in enumerate(weights):
        share = (which == number).mean()
        assert abs(share - weight / sum(weights)) <= 0.01


@settings(max_examples=40, deadline=None)
@given(CASES, st.integers(0, 10**9))
def test_each_source_comes_in_whole_epochs(cases, seed):
    """No record twice before all of its source once; and another order in the next epoch."""
    sizes, weights = zip(*cases, strict=True)
    mixture = mixed(sizes, weights)
    which, own = of_sources(mixture, mixture.order(TASK, np.arange(6 * WINDOW), seed))
    for number, n in enumerate(sizes):
        mine = own[which == number]
        epochs = mine[: len(mine) // n * n].reshape(-1, n)
        assert (np.sort(epochs, axis=1) == np.arange(n)).all()
        if len(epochs) > 1:
            assert (epochs[0] != epochs[1]).any()


@settings(max_examples=40, deadline=None)
@given(CASES, st.integers(0, 10**9), st.lists(st.integers(0, 10**7), min_size=1, max_size=30))
def test_a_place_has_its_record_whatever_is_asked_beside_it(cases, seed, places):
    mixture = mixed(*zip(*cases, strict=True))
    together = mixture.order(TASK, np.array(places), seed)
    assert together.tolist() == [int(mixture.order(TASK, np.array([p]), seed)[0]) for p in places]
    assert (together < mixture.size(TASK, "train")).all()


def test_ranks_micro_steps_and_a_later_start_read_the_same_rows():
    mixture = mixed((50, 9), (2, 1))
    whole = list(MicroSteps({TASK: 12}, {TASK: 59}, 3, 8, order=mixture.order))
    parts = [
        MicroSteps({TASK: 12}, {TASK: 59}, 3, 8, 2, 2, 3, rank, mixture.order) for rank in range(3)
    ]
    for step in range(2, 8):
        cut = [draw for micro in range(2) for part in parts for draw in part.draws(step, micro)]
        assert sorted(cut, key=lambda draw: draw.slot) == whole[step]
    again = pickle.loads(pickle.dumps(mixture))
    assert [d.index for d in whole[0]] == again.order(TASK, np.arange(12), seed_of_text(3)).tolist()


def seed_of_text(seed):
    from unify.noise import stable_seed

    return stable_seed(seed, TASK)


def test_data_reads_a_mixture_and_keys_say_the_source():
    data = Data(mixed((50, 9), (3, 1)), {TASK: 8})
    (batch,) = next(iter(data.train_batches(0, 1, 0, 1))).values()
    assert len(set(batch.keys)) == 8
    assert {key.split("/")[0] for key in batch.keys} == {"s0", "s1"}
    assert data.batch(TASK, "test", [0, 3]).keys == ["s0/test/0", "s1/test/1"]
    assert len(data.texts(1000)) >= 59


def test_a_task_is_of_those_that_serve_it():
    both = {"a": Numbered(10, (TASK, "caption")), "b": Numbered(20)}
    mixture = Mixture(both, {"a": 1, "b": 1})
    assert mixture.tasks == {TASK, "caption"}
    assert (mixture.order("caption", np.arange(50), 0) < 10).all()
    only = Mixture(both, {"a": 1, "b": 1}, {TASK: {"b": 0}})
    assert (only.order(TASK, np.arange(50), 0) < 10).all()
    prints = {m.fingerprint() for m in (mixture, only, Mixture(both, {"a": 2, "b": 1}))}
    assert len(prints) == 3
    with pytest.raises(IndexError, match="caption has 10 records in train, no 10"):
        mixture.record("caption", "train", 10)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Mixture({}, {}), "a mixture has no sources"),
        (lambda: Mixture(sources(3, 4), {"s0": 1}), "shares: one number for each of s0, s1"),
        (lambda: Mixture(sources(3), {"s0": 1, "x": 1}), "shares: one number for each of s0"),
        (lambda: mixed((3, 4), (0, 0)), "all sources that serve it have a share of 0"),
        (lambda: mixed((3, 4), (10_000, 1)), "s1 has 0.0001 of the rows, less than one of 1,000"),
        (
            lambda: Mixture(sources(3), {"s0": 1}, {"edit": {"s0": 1}}),
            "of_task: no source serves 'edit'; they serve text",
        ),
        (
            lambda: Mixture(sources(3), {"s0": 1}, {TASK: {"s9": 1}}),
            "of_task.text: one number for each of s0",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused_in_words(made, message):
    with pytest.raises(ValueError, match=message):
        made()
