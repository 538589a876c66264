"""Parts of a study whose seeds are whole pipelines, so small that each is trained in a second."""

import yaml
from places import EXPERIMENTS

ROWS = {"text_to_image": 2, "caption": 2, "vqa": 2}
TRUNK = {"dim": 32, "depth": 2, "heads": 2}
TEXT = {"weights": {"run": "text.yaml"}}
FEW = {"records": 200}  # so that a vocabulary is fitted at once
FROM_VAE = {"weights": {"run": "vae.yaml"}}
IMAGES = {"class": "unify.metrics.shapes_images.TextToImage", "geneval": 0, "heldout": 0}
FROM_LANGUAGE = {"trunk": {"weights": {"run": "llm.yaml", "part": "trunk"}}}  # of `model`


def write_parts(folder, image=FROM_VAE, of_llm=None):
    """text.yaml (a vocabulary), vae.yaml, llm.yaml (of that vocabulary) and scratch.yaml, which
    starts from the vocabulary and has `image`.

    `of_llm`: more of the language model's file.
    """
    vision = {"dim": 32, "depth": 1, "heads": 2}
    files = {
        "text": {
            "base": f"{EXPERIMENTS}/tokenizers/shapes_text.yaml",
            "data": {"source": FEW},
        },
        "vae": {
            "base": f"{EXPERIMENTS}/tokenizers/shapes_vae.yaml",
            "model": {"widths": [8, 8], "patch": 2},
            "steps": 2,
            "evaluation": [],
        },
        "llm": {
            "base": f"{EXPERIMENTS}/vlm.yaml",
            "model": {"trunk": TRUNK, "text": TEXT, "vision": vision},
            "steps": 2,
            "data": {"tasks": {"caption": 2, "vqa": 2, "text": 2}},
            "evaluation": [],
            **(of_llm or {}),
        },
        "scratch": {
            "base": f"{EXPERIMENTS}/transfusion.yaml",
            "model": {"trunk": TRUNK, "text": TEXT, "image": image},
            "steps": 3,
            "data": {"tasks": ROWS},
            "image_sampling": {"steps": 2},
        },
    }
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
