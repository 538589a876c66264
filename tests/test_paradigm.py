"""What a paradigm is asked for, and how it is told what it was not."""

from dataclasses import dataclass

import pytest
import torch

from unify.noise import Noise
from unify.paradigm import ImageRequest, Paradigm, TextRequest


@dataclass
class Loudness:
    level: float = 1.0


class Echo(Paradigm):
    """Draws its noise, as loud as it is told; says how loud."""

    image_sampler = text_sampler = Loudness

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def loss(self, batch, noise):
        return {}

    def sample_image(self, request, sampler):
        return sampler.level * self.weight * request.noise("cpu").normal("x0", (3, 2, 2))

    def sample_text(self, request, sampler):
        return [f"{sampler.level}"] * len(request)


def test_settings_reach_the_sampler_and_no_gradient_leaves():
    model, request = Echo(), ImageRequest(["a", "b"], seed=3)
    drawn = model.generate_image(request, level=2.0)
    assert not drawn.requires_grad
    assert torch.equal(drawn, 2 * Noise.for_prompts(3, ["a", "b"]).normal("x0", (3, 2, 2)))
    assert model.generate_text(TextRequest(prompts=["a"]), level=0.5) == ["0.5"]
    with pytest.raises(TypeError, match="volume"):
        model.generate_image(request, volume=2.0)


def test_a_request_has_as_many_rows_as_prompts_or_else_as_images():
    images = torch.zeros(3, 3, 4, 4)
    assert len(ImageRequest(["a", "b"])) == len(ImageRequest(["a", "b"], [images[:2]])) == 2
    assert len(ImageRequest(sources=[images])) == len(TextRequest(images)) == 3
    assert len(TextRequest(prompts=["what?"])) == 1


def test_without_prompts_rows_are_told_apart_by_their_number():
    request = ImageRequest(sources=[torch.zeros(2, 3, 4, 4)], seed=1)
    wanted = Noise.for_prompts(1, [None, None]).normal("x0", (4,))
    assert torch.equal(request.noise("cpu").normal("x0", (4,)), wanted)
    assert not torch.equal(wanted[0], wanted[1])


@pytest.mark.parametrize("request_of_nothing", [ImageRequest, TextRequest])
def test_a_request_of_nothing_is_refused(request_of_nothing):
    with pytest.raises(ValueError, match=r"needs .*, or both"):
        request_of_nothing()


@pytest.mark.parametrize("kind", ["image", "text"])
def test_an_override_of_the_old_signature_is_refused_when_the_class_is_made(kind):
    with pytest.raises(TypeError, match=rf"Old overrides generate_{kind}; define sample_{kind}\("):
        type("Old", (Paradigm,), {f"generate_{kind}": lambda self, prompts, seed=0: None})


def test_a_paradigm_that_generates_nothing_says_so_by_its_name():
    model = type("Mute", (Echo,), {"sample_image": Paradigm.sample_image})()
    with pytest.raises(ValueError, match="Mute does not generate images"):
        model.generate_image(ImageRequest(["a"]))
