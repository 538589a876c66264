"""config.yaml of a run: damaged ones are named, and one that is gone is put back."""

import pytest

from unify.runs.folder import Run
from unify.runs.saved_config import plain_config, put_back_config, saved_config

DAMAGE = ["", "null", "[]", "3", "name: [", "model: 3", "steps: many", "evaluation: {}", "a: \x00"]


@pytest.mark.fault(40)
@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_one_is_named_with_its_remedy(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    for read in (lambda: plain_config(path), lambda: saved_config(Run(tmp_path))):
        with pytest.raises(
            ValueError, match=r"config\.yaml is damaged .*remove it.*writes it anew"
        ):
            read()


def test_one_that_is_gone_is_named_and_put_back_and_one_that_is_there_stays(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(ValueError, match=r"config\.yaml is gone; .*writes it anew"):
        saved_config(run)
    for _ in range(2):
        put_back_config(run, {"name": "x", "steps": 3})
        assert plain_config(tmp_path / "config.yaml") == {"name": "x", "steps": 3}
        (tmp_path / "config.yaml").write_text("name: x\nsteps: 3\n")
