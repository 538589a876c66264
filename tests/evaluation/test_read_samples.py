"""What is read in pictures that were drawn for prompts: said in the words of the prompts."""

import torch

from unify.data.shapes import Shapes
from unify.data.source import to_tensor
from unify.evaluation.read_samples import read_samples, some_prompts

WORLD = Shapes(objects=(1, 1))


def test_a_picture_of_what_was_asked_for_is_read_as_asked_and_others_are_not():
    asked, other = some_prompts(WORLD, 2)
    assert asked != other
    picture = to_tensor(WORLD.render(WORLD.parse(asked)))
    noise = torch.randn(picture.shape)
    images = torch.stack([picture, picture, picture, noise.clamp(-1, 1)])
    right, wrong, open_prompt, refused = read_samples(
        WORLD, [asked, other, "a circle", asked], images
    )
    assert (right.read, right.right) == (asked, True)
    assert right.title == f"{asked}, read as asked"
    assert (wrong.read, wrong.right) == (asked, False)
    assert wrong.title == f"{other}; read: {asked}"
    assert (open_prompt.read, open_prompt.right) == (asked, None)
    assert (refused.read, refused.right) == ("nothing of this world", False)


def test_an_empty_picture_is_said_to_be_one():
    background = to_tensor(WORLD.render(WORLD.scene("test", 0)))[:, 15:16, 15:16]
    (one,) = read_samples(WORLD, some_prompts(WORLD, 1), background.expand(1, 3, 32, 32))
    assert (one.read, one.right) == ("an empty picture", False)


def test_prompts_are_distinct():
    prompts = some_prompts(WORLD, 8)
    assert len(set(prompts)) == len(prompts) == 8
