"""Loaders: what `save` wrote is read back, cluster files, and the machine of a finished run."""

import pytest
from config_parts import GOOD, PARTS, refused, write

from unify.config import ConfigError, load_cluster, load_recipe, on_machine, read, save


def test_saved_config_reads_back_equal_even_when_completed_again(folder):
    completed = load_recipe(folder / "good.yaml", ["optimizer.lr=1e-05", "model.rate=3"])
    save(completed, folder / "config.yaml")
    assert read(folder / "config.yaml", trusted=True) == completed
    save(read(folder / "config.yaml"), folder / "again.yaml")
    assert (folder / "again.yaml").read_text() == (folder / "config.yaml").read_text()


def test_python_files_are_run_only_for_yamls_that_the_user_named(folder):
    other = folder / "other.py"
    other.write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n" + PARTS)
    text = GOOD.replace("./parts.py", str(other))
    with pytest.raises(ConfigError, match="only for a YAML named on the command line"):
        read(write(folder, "config.yaml", text))
    assert not (folder / "ran").exists()
    read(folder / "config.yaml", trusted=True)
    assert (folder / "ran").exists()


CLUSTER = "partition: gpu\nnodes: 2\nranks: 4\nmachine: {strategy: fsdp}\n"
BROKEN_CLUSTERS = {
    "unknown key": ("partition", "partitoin", "partitoin", "did you mean 'partition'?"),
    "nodes in letters": ("nodes: 2", "nodes: two", "nodes", "write a number"),
    "half a node": ("nodes: 2", "nodes: 2.5", "nodes", "write a whole number"),
    "no node": ("nodes: 2", "nodes: 0", "nodes", "write 1 or more"),
    "ranks in quotes": ("ranks: 4", "ranks: '4'", "ranks", "write 4 without quotes"),
    "less than no rank": ("ranks: 4", "ranks: -1", "ranks", "write 1 or more"),
    "a time with a unit": ("ranks: 4", "minutes: 1h", "minutes", "write a number"),
    "one line of setup": ("ranks: 4", "setup: module load x", "setup", "a list of str"),
    "a number exported": ("ranks: 4", "environment: {A: 1}", "environment.A", "write str"),
    "list of options": ("ranks: 4", "sbatch: [a]", "sbatch", "a mapping of str"),
    "given twice": ("ranks: 4", "ranks: 4\nranks: 5", "ranks", "keep one"),
    "a tab": ("ranks: 4", "\tranks: 4", "not readable as YAML", "spaces, not tabs"),
    "a Python tag": ("gpu", "!!python/name:os.system", "partition", "write a plain value"),
    "no mapping": ("{strategy: fsdp}", "fsdp", "machine", "write a mapping"),
    "unknown key of machine": ("strategy", "stratgy", "stratgy", "did you mean 'strategy'?"),
    "no such strategy": ("fsdp", "fsdq", "strategy", "did you mean 'fsdp'?"),
}


@pytest.mark.fault(28)
@pytest.mark.parametrize("case", BROKEN_CLUSTERS)
def test_a_broken_cluster_is_refused_with_file_key_and_remedy(folder, case, record_property):
    refused(folder / "cluster.yaml", CLUSTER, BROKEN_CLUSTERS[case], load_cluster, record_property)


def test_a_finished_run_is_opened_on_another_machine_and_with_no_other_setting():
    known = {"devices": 8, "strategy": "fsdp", "timeout": 60.0}
    assert on_machine(known, []) == known
    printed = on_machine(known, ["machine.devices=2", "machine.strategy=ddp"])
    assert printed == {"devices": 2, "strategy": "ddp", "timeout": 60.0}
    with pytest.raises(ConfigError, match=r"steps: a run that is finished keeps its settings"):
        on_machine(known, ["steps=3"])
    with pytest.raises(ConfigError, match=r"machine.device: unknown key; did you mean 'devices'"):
        on_machine(known, ["machine.device=2"])
