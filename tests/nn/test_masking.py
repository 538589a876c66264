"""Masking: which tokens are hidden, how many, and what weights come to, by exact sums."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unify.nn.masking import CosineMasking, Hidden, LinearMasking
from unify.noise import Noise

LAWS = {
    "cosine": CosineMasking,
    "linear": LinearMasking,
    "linear from 0": lambda weight="elbo": LinearMasking(weight, least=0.0),
}
WEIGHTS = ["token", "sample", "inverse_p", "elbo"]


def times(count=20_000):
    return (torch.arange(count).double() + 0.5) / count


def outcomes(law, places):
    """All that can be hidden up to the order of places: (Hidden, weights that sum to 1)."""
    share = law.share(times())
    if isinstance(law, CosineMasking):
        some_order = torch.linspace(0, 1, places).expand(len(share), -1)
        return Hidden(law.choose(some_order, share), share), torch.full_like(share, 1 / len(share))
    n = torch.arange(places + 1)
    binomial = torch.distributions.Binomial(places, share[:, None]).log_prob(n.double()).exp()
    hidden = (torch.arange(places) < n[:, None]).repeat(len(share), 1)
    return Hidden(hidden, share.repeat_interleave(len(n))), (binomial / len(share)).flatten()


@pytest.mark.parametrize("places", [1, 2, 5, 16])
@pytest.mark.parametrize("law", LAWS)
def test_the_chances_of_each_count_are_those_of_the_law(law, places):
    law = LAWS[law]()
    hidden, weights = outcomes(law, places)
    measured = torch.zeros(places + 1).double().index_add(0, hidden.count, weights)
    stated = law.counts(places)
    assert stated.sum().item() == pytest.approx(1)
    torch.testing.assert_close(stated, measured, atol=1e-4, rtol=0)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("law", LAWS)
def test_a_constant_loss_gives_the_constant_of_each_weighting(law, weight):
    """c for all, but for what a law leaves out: rows without a hidden token, and shares below the
    least that `inverse_p` divides by. The total is N c in nats, whatever the weight."""
    places, c = 5, 1.7
    law = LAWS[law](weight)
    hidden, weights = outcomes(law, places)
    term = law.term(torch.full(hidden.places.shape, c), hidden)
    expected = 1.0
    if weight == "sample":
        expected -= law.counts(places)[0].item()
    elif weight == "inverse_p":
        hit = hidden.count / (places * hidden.share.clamp(min=1e-3))
        expected = (weights * hit).sum().item()
    assert (weights * term.value).sum().item() == pytest.approx(c * expected, rel=2e-3)
    assert (weights * term.total).sum().item() == pytest.approx(c * places, rel=2e-3)
    assert set(term.count.tolist()) == {places}


def test_over_the_share_and_over_the_count_are_one_where_places_are_many():
    """With few, a cosine row has one hidden token even where its share is next to nothing."""
    law = CosineMasking("inverse_p")
    hidden, weights = outcomes(law, 256)
    value = law.term(torch.ones(hidden.places.shape), hidden).value
    assert (weights * value).sum().item() == pytest.approx(1.003, abs=1e-3)


def test_the_weight_of_the_bound_is_the_mean_over_shares_that_hide_as_many():
    """1/(n q(n)) of n = E[1/(p f(p)) | n]: for the linear law (N+1)/n."""
    n = torch.arange(1, 8)
    q = LinearMasking(least=0.0).counts(7)
    torch.testing.assert_close(1 / (n * q[1:]), 8 / n.double())


@pytest.mark.parametrize("n", [8, 64, 128, 200])
def test_with_many_places_it_is_the_weight_of_continuous_time(n):
    places = 256
    p, q = n / places, CosineMasking().counts(places)[n].item()
    of_paper = math.pi * math.sqrt(1 - p * p) / (2 * p)  # 1/(p f(p)), f = 2/(pi sqrt(1 - p^2))
    assert 1 / (n * q) == pytest.approx(of_paper, rel=0.01)


@pytest.mark.parametrize("law", LAWS)
def test_time_is_0_where_all_is_hidden(law):
    law = LAWS[law]()
    share = law.share(torch.tensor([0.0, 0.5, 1 - 2**-20]))
    assert share[0] == 1
    assert (share.diff() < 0).all()
    assert 0 < share[-1] < 1.1e-3
    hidden = law.choose(torch.rand(3, 50, generator=torch.Generator().manual_seed(0)), share)
    assert hidden[0].all()
    term = law.term(torch.ones(3, 50), Hidden(hidden, share))
    torch.testing.assert_close(term.t, 1 - share)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1, exclude_max=True, width=32), st.integers(1, 300))
def test_a_cosine_row_always_has_a_hidden_token_and_never_more_than_all(t, places):
    law = CosineMasking()
    share = law.share(torch.tensor([t]))
    n = law.choose(torch.linspace(0, 0.99, places)[None], share).sum().item()
    assert 1 <= n <= places
    assert n == max(1, round(places * share.item()))


def test_each_set_of_hidden_places_is_as_likely():
    ranks = torch.tensor(list(itertools.permutations(range(4)))) / 4  # every order
    share = torch.full((24,), 0.5)
    sets = CosineMasking().choose(ranks, share)
    counts = {s: sets.tolist().count(list(s)) for s in set(map(tuple, sets.tolist()))}
    assert len(counts) == math.comb(4, 2)
    assert set(counts.values()) == {4}


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("law", LAWS)
def test_what_is_not_hidden_teaches_nothing(law, weight):
    law = LAWS[law](weight)
    hidden = law.draw(Noise([("a",), ("b",), ("c",)]), 1, 9)
    one = torch.rand(3, 9, generator=torch.Generator().manual_seed(1)).requires_grad_()
    other = torch.where(hidden.places, one, one + 5)
    torch.testing.assert_close(law.term(one, hidden).value, law.term(other, hidden).value)
    law.term(one, hidden).value.sum().backward()
    assert torch.equal(one.grad != 0, hidden.places)


def test_laws_share_their_streams():
    """So arms with other laws see the same uniform numbers, and flows to one target too."""
    drawn = []
    for law in LAWS.values():
        noise = Noise([("a",)])
        law().draw(noise, 1, 4)
        drawn.append(noise.drawn)
    assert drawn == [{"image1/t": "uniform", "order": "uniform [4]"}] * 3
