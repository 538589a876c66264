"""YAML trees: scalars as YAML 1.2 has them, and the file and line of every value."""

from config_parts import GOOD, message, write

from unify.config import load, save


def test_scalars_are_read_as_yaml_1_2_and_dumped_to_be_read_back_equal(folder):
    odd = {"a": "1e-4", "b": "on", "c": "null", "d": "12", "e": 1e-05, "f": float("inf"), "g": ""}
    odd |= {
        "h": "x: y",
        "i": [None, True, -3, "~"],
        "j": "é\n",
        "k": "0x1f",
        "l": 1e300,
        "m": "1_0",
    }
    path = folder / "odd.yaml"
    save(odd, path)
    assert load(path).root.plain() == odd
    text = "a: 1e-4\nb: on\nc: 1_000\nd: -.inf\ne: 0o7\nf: 2024-01-01\ng:\nh: 1.\ni: 12:30"
    assert load(write(folder, "s.yaml", text)).root.plain() == {
        "a": 1e-4, "b": "on", "c": 1000, "d": float("-inf"), "e": "0o7", "f": "2024-01-01",
        "g": None, "h": 1.0, "i": "12:30",
    }  # fmt: skip


def test_problems_name_the_line(folder):
    path = write(folder, "good.yaml", GOOD.replace("lr: 1e-3", "lr: x"))
    assert message(path).startswith(f"{path}:11: optimizer.lr: ")
    path = write(folder, "child.yaml", "base: good.yaml\n\nsteps: x")
    first, second = sorted(message(path).splitlines())
    assert first.startswith(f"{path}:3: steps: ")
    assert second.startswith(f"{folder}/good.yaml:11: optimizer.lr: ")
