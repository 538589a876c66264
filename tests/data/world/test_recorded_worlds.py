"""Worlds without looks and held-out keys are what they were before there were any."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_digests import arguments, digest, recorded, streams, world_of

RECORDED = recorded()
STREAMS = [(name, stream) for name in arguments() for stream in streams(name)]


@pytest.mark.parametrize("name", arguments())
def test_a_world_without_looks_and_held_out_keys_keeps_its_fingerprint(name):
    assert world_of(name).fingerprint() == RECORDED[name]["fingerprint"]
    assert len(RECORDED[name]) == len(streams(name)) + 1


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(STREAMS))
def test_records_prompts_and_verdicts_are_what_they_were(named):
    name, stream = named
    assert digest(name, stream) == RECORDED[name][stream]


@pytest.mark.slow
def test_every_recorded_stream_is_what_it_was():
    assert [s for s in STREAMS if digest(*s) != RECORDED[s[0]][s[1]]] == []
