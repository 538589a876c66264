"""Shipped experiments that start from other runs, at tiny size: what each loads and trains."""

import pytest
import torch
from places import EXPERIMENTS
from safetensors.torch import load_file

from unify.assembly.assemble import open_run
from unify.config import load_recipe
from unify.paradigm import ImageRequest
from unify.training.train_run import train

STAGES = EXPERIMENTS / "queries_dit_stages"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains an experiment, and what it needs, in one runs folder."""
    runs = tmp_path_factory.mktemp("runs")

    def run(name, *words):
        machine = [f"machine.runs={runs}", "machine.tracker=none"]
        return train(load_recipe(STAGES / name, [*machine, *words], tiny=True), lambda text: None)

    return run


def weights(run, start=""):
    state = load_file(run.folder / "export" / "model.safetensors")
    return {key: value for key, value in state.items() if key.startswith(start)}


def moved(run, other):
    """Parts whose weights differ."""
    theirs = weights(other)
    return {k.split(".")[0] for k, v in weights(run).items() if not torch.equal(v, theirs[k])}


@pytest.mark.slow
def test_stage_1_trains_queries_and_connector_onto_a_denoiser_that_keeps_its_weights(trained):
    denoiser, first = trained("denoiser.yaml"), trained("stage1.yaml")
    assert not weights(first, "denoiser.")  # left out: they are the other run's
    loaded = open_run(first.folder)[2].model.denoiser.state_dict()
    known = weights(denoiser, "denoiser.")
    assert loaded.keys() == {key.removeprefix("denoiser.") for key in known}
    assert all(torch.equal(loaded[key.removeprefix("denoiser.")], known[key]) for key in known)
    still = trained("stage1.yaml", "optimizer.lr=0.0")
    assert moved(first, still) == {"queries", "connector"}
    assert first.info["needed"].keys() == {str(STAGES / "denoiser.yaml")}


@pytest.mark.slow
def test_stage_2_trains_the_denoiser_too_from_where_stage_1_ended(trained):
    first, still = trained("stage1.yaml"), trained("stage2.yaml", "optimizer.lr=0.0")
    for key, value in weights(first).items():
        assert torch.equal(weights(still)[key], value), key
    known = weights(trained("denoiser.yaml"), "denoiser.")
    assert all(torch.equal(weights(still)[key], value) for key, value in known.items())
    second = trained("stage2.yaml", "optimizer.lr=0.1")
    assert moved(second, still) == {"queries", "connector", "denoiser"}
    model = open_run(second.folder)[2].model
    assert model.train_denoiser
    drawn = model.generate_image(ImageRequest(["a red circle", "a blue square"]), steps=2)
    assert torch.isfinite(drawn).all()


def test_stage_1_without_weights_fails_before_its_first_step(trained):
    with pytest.raises(ValueError, match="denoiser is frozen and has no weights"):
        trained("../queries_dit.yaml", "model.train_denoiser=false")


@pytest.mark.slow
@pytest.mark.parametrize("text_tower", ["trained", "frozen"])
def test_a_text_tower_starts_as_the_trained_language_model_and_so_does_its_copy(
    trained, text_tower
):
    vlm = EXPERIMENTS / "vlm.yaml"
    llm = f"model.llm={{weights: {{run: {vlm}}}}}"
    words = [llm, f"model.text_tower={text_tower}"]
    known = weights(trained(vlm))
    still = trained(EXPERIMENTS / "dual_tower_llm.yaml", *words, "optimizer.lr=0.0")
    model = open_run(still.folder)[2].model
    for name, value in known.items():
        if name.startswith("trunk."):
            for tower in (model.trunk.text, model.trunk.image):
                assert torch.equal(tower.get_parameter(name.removeprefix("trunk.")), value)
        elif name.startswith(("embed.", "to_text.")):
            assert torch.equal(model.get_parameter(name), value)
    free = trained(EXPERIMENTS / "dual_tower_llm.yaml", *words, "optimizer.lr=0.1")
    learned = {"trunk", "patches"} | ({"embed", "to_text"} if text_tower == "trained" else set())
    assert moved(free, still) - {"delimiters"} == learned
    assert any(k.startswith("trunk.text") for k in weights(free)) == (text_tower == "trained")
