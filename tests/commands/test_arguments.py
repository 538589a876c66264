"""Options and `key=value` words are given once, and numbers are numbers."""

import pytest
import typer

from unify.commands.app import app

TWICE = {
    "train -c a.yaml -c b.yaml": "--config: given more than once",
    "train -c a.yaml --config=b.yaml": "--config: given more than once",
    "train -c a.yaml steps=1 ema=0 steps=2": "steps: given twice on the command line",
    "study a.yaml --only x --only y": "--only: given more than once",
    "study a.yaml --seeds 2 seeds=[1]": "seeds: given twice",
    "study a.yaml --tiny --tiny": "--tiny: given more than once",
    "sample run guidance=1 guidance=2": "guidance: given twice",
    "eval run machine.devices=1 machine.devices=2": "machine.devices: given twice",
    "data import a b --text x --text y": "--text: given more than once",
}


@pytest.mark.fault(37)
@pytest.mark.parametrize("words", TWICE)
def test_what_is_given_twice_is_told_of(words):
    with pytest.raises(ValueError, match=TWICE[words].replace("[", r"\[")):
        app(words.split(), standalone_mode=False)


def test_prompts_may_be_given_again(tmp_path):
    with pytest.raises(ValueError, match="is not a run folder"):
        app(["sample", str(tmp_path), "-p", "a", "-p", "b"], standalone_mode=False)


def float_options(command, words=()):
    """(words of the command, option) of every option of a whole app whose default is a float."""
    for name, child in getattr(command, "commands", {}).items():
        yield from float_options(child, (*words, name))
    for param in command.params:
        if isinstance(param.default, float):
            required = [p.name for p in command.params if p.required]
            yield (*words, *required), param.opts[0]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_of_an_option_is_finite(value):
    options = list(float_options(typer.main.get_command(app)))
    assert len(options) >= 2
    for words, option in options:
        with pytest.raises(Exception, match=r"finite|in the range|should be"):
            app([*words, f"{option}={value}"], standalone_mode=False)
