"""Names of studies, arms and runs are those of one folder each."""

import pytest
from config_parts import message, write

from unify.config import ConfigError, check_file, load_study
from unify.config.yaml_tree import dump

NAMES = ["..", "", "/abs", "../../x", "a/b", "a\\b", "a\nb", "a\u202eb", "-x", ".x", "a ", "CON"]


@pytest.mark.fault(37, times=2)
@pytest.mark.parametrize("name", [*NAMES, "x" * 300])
def test_a_study_and_an_arm_are_named_as_one_folder(folder, name):
    for content in (
        {"name": name, "arms": {"one": "good.yaml"}},
        {"name": "s", "arms": {name: "good.yaml"}},
    ):
        path = write(folder, "study.yaml", dump(content))
        (problem,) = check_file(path)
        assert problem.line
        assert "it names a folder" in problem.message
        assert str(problem).isprintable()


@pytest.mark.fault(37)
def test_the_names_of_trials_are_folders_too(folder):
    name, tune = "x" * 195, {"metric": "m", "space": {"optimizer.warmup": [1]}}
    path = write(folder, "study.yaml", dump({"name": name, "arms": {name: "good.yaml"}}))
    assert check_file(path) == []
    content = {"name": name, "arms": {name: "good.yaml"}, "tune": tune}
    problems = check_file(write(folder, "study.yaml", dump(content)))
    assert [(p.line, p.key) for p in problems] == [(1, "name"), (3, f"arms.{name}")]


@pytest.mark.fault(37)
@pytest.mark.parametrize("name", ["x-tuning", "X-Tuning"])
def test_a_study_is_not_named_as_the_trials_of_another(folder, name):
    content = {"name": name, "arms": {"one": "good.yaml"}}
    (problem,) = check_file(write(folder, "study.yaml", dump(content)))
    assert (problem.line, problem.key) == (1, "name")
    assert "give it another name" in problem.message


@pytest.mark.fault(37)
@pytest.mark.parametrize("key", ["name", "study"])
def test_a_run_is_named_as_one_folder(folder, key):
    assert f"command line: {key}: '../x' " in message(folder / "good.yaml", (f"{key}=../x",))


@pytest.mark.fault(37)
def test_a_run_that_is_named_by_its_file_is_too(folder):
    path = write(folder, "-x.yaml", (folder / "good.yaml").read_text())
    assert "name: '-x' begins with '-'" in message(path)


ONE_FOLDER = {
    "arms: {wide: good.yaml, Wide: good.yaml}": "'wide' and 'Wide'",
    "arms: {é: good.yaml, e\u0301: good.yaml}": "'\\xe9' and 'e\\u0301'",
    "arms: {a: good.yaml}\ngrid: {steps: [1, 1]}": "two times 'a,steps=1'",
    "arms: {a: good.yaml}\ngrid: {data.source.folder: [a/b, a:b]}": "two times 'a,folder=a_b'",
    "arms: {a: good.yaml, 'a,default': good.yaml}\n"
    "tune: {metric: m, space: {optimizer.warmup: [1]}, defaults: true}": "two times 'a,default'",
}


@pytest.mark.fault(37)
@pytest.mark.parametrize("keys", ONE_FOLDER)
def test_two_arms_of_one_folder_are_refused(folder, keys):
    path = write(folder, "study.yaml", f"name: s\n{keys}\n")
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    assert f"arms: {ONE_FOLDER[keys]}" in str(caught.value)


def test_spaces_umlauts_and_letters_of_all_scripts_are_allowed(folder):
    arms = "{tr wide: good.yaml, größe: good.yaml, 模型: good.yaml}"
    path = write(folder, "study.yaml", f"name: meine Studie\narms: {arms}\n")
    assert check_file(path) == []


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    "more",
    [
        {"grid": {"steps": [1, 2]}},
        {"grid": {"budget.steps": [5, 9]}, "cooldowns": {"share": 0.2}},
        {"tune": {"metric": "m", "space": {"optimizer.warmup": [1, 2]}, "defaults": True}},
    ],
)
def test_a_comma_does_not_part_a_name_where_a_point_of_the_grid_follows_it(folder, more):
    """The report would take what comes after it for a point, and compare nothing."""
    content = {"name": "s", "arms": {"mar, small": "good.yaml", "mar, large": "good.yaml"}}
    assert check_file(write(folder, "study.yaml", dump(content))) == []
    problems = check_file(write(folder, "study.yaml", dump({**content, **more})))
    named = [p for p in problems if "has a comma" in p.message]
    assert [p.key for p in named] == ["arms.mar, small", "arms.mar, large"]
