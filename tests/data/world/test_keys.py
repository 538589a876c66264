"""Scenes held out by meaning: in no training record, and of a split by their captions alone."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes_worlds import HARD_LOOKS, LOOKS, STUDY, texts_of

from unify.data.shapes import Shapes
from unify.data.world.keys import is_sealed, key_of, owner_of
from unify.data.world.scene import Scene

SPLITS = ("train", "validation", "test")
SMALL = Shapes(heldout_keys=0.3, scenes=60, completeness=0.8, caption_noise=0.2, prompt_mix=0.5)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SPLITS), st.integers(0, 9999), st.integers(0, 99))
def test_the_split_of_a_scene_follows_from_its_caption_alone(split, index, seed):
    scene = STUDY.scene(split, index)
    parts = re.split(", | and ", STUDY.caption(scene))
    random.Random(seed).shuffle(parts)
    other = Shapes(objects=(1, 3), colors=["yellow", "blue", "red", "green", "black"], seed=seed)
    read = other.parse(" and ".join(parts))  # another world, without looks or keys
    owner = STUDY.keys.owner(scene)
    assert owner == STUDY.keys.owner(read)
    assert owner in (None, split)
    assert (owner is None) == (len(scene) == 1)
    if owner is not None:
        assert owner == owner_of(key_of(other.board, read), 0.2)


def test_the_share_of_held_out_keys_is_half_for_each_split_and_grows_without_exchange():
    scenes = [scene for n in (2, 3) for scene in STUDY.keys.scenes(n)]
    keys = [key_of(STUDY.board, scene) for scene in scenes]
    assert len(set(keys)) == len(keys) == 600 + 4000
    owners = [owner_of(key, 0.2) for key in keys]
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert owners.count(split) / len(keys) == pytest.approx(share, abs=0.02)
    wider = [owner_of(key, 0.4) for key in keys]
    assert all(b == a for a, b in zip(owners, wider, strict=True) if a != "train")


def test_a_sealed_stream_asks_no_key_that_any_other_record_has():
    """But those of one thing, which all splits share."""
    sealed, other = STUDY.on_stream(7), STUDY.on_stream(8)
    for n in (2, 3):
        own = set(sealed.keys.listed(n, "test"))
        assert own == set(other.keys.listed(n, "test"))
        parts = [own, *(set(STUDY.keys.listed(n, split)) for split in SPLITS)]
        assert sum(map(len, parts)) == len(set().union(*parts))
        every = [s for s in STUDY.keys.scenes(n) if STUDY.keys.owner(s) == "test"]
        assert len(own) / len(every) == pytest.approx(0.5, abs=0.06)
    asked = {p.scene for p in sealed.prompts("full", 200, 0) if len(p.scene) > 1}
    assert asked.isdisjoint(p.scene for p in STUDY.prompts("full", 200, 0))
    assert [STUDY.scene("train", i) for i in range(9)] == [
        sealed.scene("train", i) for i in range(9)
    ]
    for index in range(60):
        for task in sorted(STUDY.tasks - {"image"}):
            scene = sealed.record(task, "test", index).meta.get("scene")
            if scene is not None and len(scene) > 1:
                assert not STUDY.keys.allows("test", scene)
                assert sealed.keys.allows("test", scene)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.floats(0.001, 0.9))
def test_the_sealed_half_is_chosen_whatever_the_share(number, share):
    key = str(number)
    assert is_sealed(key) == is_sealed(key)
    if owner_of(key, share) == "test":
        assert owner_of(key, 0.9) == "test"


def scan(world, n):
    """Whose scenes `n` records of a world are, spread over its tasks and splits."""
    per = n // (len(world.tasks) * len(SPLITS))
    for task in sorted(world.tasks):
        for split in SPLITS:
            for i in range(per):
                check(world, split, world.record(task, split, i))


def check(world, split, record):
    for text in texts_of(record):  # a prompt, a caption, a sentence for a language model
        said = world.parse(text)
        assert said is None or belongs(world, split, said), record
    shown = [value for value in record.meta.values() if isinstance(value, Scene)]
    for scene in (*shown, *record.meta.get("sources", ())):
        assert belongs(world, split, scene), record


def belongs(world, split, scene):
    """By the key's hash alone, however the world drew the scene."""
    own = owner_of(key_of(world.board, scene), world.keys.share)
    return (len(scene) == 1 or own == split) and not world.board.has_heldout(scene)


@pytest.mark.parametrize("world", [STUDY, SMALL], ids=["study", "few scenes"])
def test_no_training_record_of_any_task_has_a_held_out_key_and_each_split_its_own(world):
    scan(world, 2000)


@pytest.mark.slow
@pytest.mark.parametrize("world", [STUDY, HARD_LOOKS], ids=["study", "hard"])
def test_none_of_many_records_has_a_key_of_another_split(world, often):
    scan(world, often(20_000, 100_000) if world is STUDY else often(2_000, 20_000))


def test_a_check_of_records_sees_a_key_of_another_split():
    held = next(s for s in STUDY.keys.listed(2, "test") if len(s) == 2)
    record = Shapes(objects=(2, 2)).record("caption", "train", 0)
    record.meta["scene"] = held
    with pytest.raises(AssertionError):
        check(STUDY, "train", record)


def test_object_counts_and_kinds_of_edits_stay_balanced_on_held_out_keys():
    counts = [len(STUDY.scene("test", i)) for i in range(600)]
    for n in (1, 2, 3):
        assert counts.count(n) / 600 == pytest.approx(1 / 3, abs=0.07)
    kinds = [STUDY.edited("test", i).kind for i in range(100)]
    assert set(kinds) == {"color", "shape", "remove", "add", "move"}
    sources = [len(STUDY.edited("test", i).source) for i in range(100)]
    assert all(sources.count(n) > 15 for n in (1, 2, 3))


def test_a_world_says_which_splits_it_has():
    for task in STUDY.tasks:
        assert STUDY.key_splits(task) == (2, 3)
    assert Shapes().key_splits("caption") == ()
    one = Shapes(objects=(1, 1), heldout_keys=0.5)
    assert one.key_splits("caption") == ()
    assert one.distinct() == Shapes(objects=(1, 1)).distinct() == 40
    tiny = Shapes(shapes=["circle"], colors=["red"], heldout=[], grid=2, heldout_keys=0.2)
    assert tiny.key_splits("edit") == (), "six scenes of two things are too few for three splits"
    test, train = ({tiny.scene(split, i) for i in range(200)} for split in ("test", "train"))
    assert test == train


def test_training_holds_all_scenes_that_are_not_held_out():
    world = Shapes(heldout_keys=0.3)
    everything = Shapes(heldout_keys=0.3, scenes=world.distinct())
    listed = [s for n in (1, 2) for s in world.keys.listed(n, "train")]
    assert set(everything.pool) == set(listed)
    with pytest.raises(ValueError, match="scenes"):
        Shapes(heldout_keys=0.3, scenes=world.distinct() + 1)


def test_full_captions_of_a_split_come_once_and_there_are_no_more_than_its_scenes():
    for split in SPLITS:
        for category, count in STUDY.complete.items():
            most = STUDY.distinct_prompts(category, split)
            assert most == len(STUDY.keys.listed(count, split))
            prompts = STUDY.prompts(category, min(most, 50), 0, split)
            assert len({prompt.text for prompt in prompts}) == len(prompts)
            assert prompts[:10] == STUDY.prompts(category, 10, 0, split)
            assert prompts != STUDY.prompts(category, len(prompts), 1, split)
            for prompt in prompts:
                assert STUDY.keys.owner(prompt.scene) in (None, split)
                assert prompt.scene.background is not None
    most = STUDY.distinct_prompts("two_objects")
    assert len(STUDY.prompts("two_objects", most, 0)) == most
    with pytest.raises(ValueError, match=rf"{most + 1} prompts.*{most} distinct"):
        STUDY.prompts("two_objects", most + 1, 0)
    heldout = STUDY.prompts("full", 128, 0, "heldout")
    assert len({prompt.text for prompt in heldout}) == 128
    assert all(STUDY.board.has_heldout(prompt.scene) for prompt in heldout)
    few = Shapes(objects=(1, 1), heldout_keys=0.2)
    assert few.distinct_prompts("full", "heldout") == 2 * 4
    assert len(few.prompts("full", 8, 0, "heldout")) == 8
    assert few.distinct_prompts("colors") is Shapes().distinct_prompts("full") is None


def test_prompts_of_many_scenes_are_drawn_and_come_once_too():
    assert HARD_LOOKS.distinct_prompts("three_objects") is None
    prompts = HARD_LOOKS.prompts("three_objects", 100, 0)
    assert len({prompt.text for prompt in prompts}) == 100
    assert {HARD_LOOKS.keys.owner(prompt.scene) for prompt in prompts} == {"test"}


def test_a_world_for_image_tokenizers_shows_all_scenes_and_tells_nothing():
    world = Shapes(objects=(1, 3), heldout_keys=0.2, tokenizer_images="all", **LOOKS)
    assert world.tasks == {"image"}
    assert world.key_splits("image") == ()
    shown = [world.record("image", "train", i).meta["scene"] for i in range(300)]
    assert {world.keys.owner(s) for s in shown if len(s) > 1} == set(SPLITS)
    assert 0 < sum(map(world.board.has_heldout, shown)) < 300
    for split in ("validation", "test", "heldout"):
        assert world.scene(split, 5) == STUDY.scene(split, 5)
    with pytest.raises(ValueError, match="serves no caption"):
        world.record("caption", "train", 0)
    for change in ({"tokenizer_images": "none"}, {"tokenizer_images": "all", "scenes": 9}):
        with pytest.raises(ValueError, match="tokenizer_images"):
            Shapes(**change)


@pytest.mark.parametrize("share", [-0.1, 0.95])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match="heldout_keys"):
        Shapes(heldout_keys=share)


def test_a_share_that_leaves_a_split_without_a_scene_is_refused():
    with pytest.raises(ValueError, match="heldout_keys=1e-05 gives"):
        Shapes(size=64, grid=3, objects=(1, 3), heldout_keys=1e-5)


def test_a_sealed_stream_asks_other_prompts_and_trains_the_same():
    sealed = STUDY.on_stream(12345)
    assert sealed.fingerprint() != STUDY.fingerprint()
    for task in STUDY.tasks:
        one, other = (w.record(task, "train", 3) for w in (STUDY, sealed))
        assert (texts_of(one), one.meta) == (texts_of(other), other.meta)
        asked = [[repr(w.record(task, "test", i).meta) for i in range(20)] for w in (STUDY, sealed)]
        assert task == "text" or asked[0] != asked[1]
    texts = [[p.text for p in w.prompts("three_objects", 20, 0)] for w in (STUDY, sealed)]
    assert texts[0] != texts[1]
    assert all(sealed.keys.owner(sealed.parse(text)) == "test" for text in texts[1])
    with pytest.raises(ValueError, match="stream"):
        STUDY.on_stream(-1)
