"""An export is written where nothing else is."""

import json

import pytest

from unify.runs.export_folder import DESCRIPTION, check_own_export, hash_files

OURS = json.dumps({"class": "unify.paradigms.ar_vq.ArVQ", "args": {}, "hash": "0123456789ab"})


def folder_of(tmp_path, **files):
    folder = tmp_path / "out"
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    "files",
    [
        {"notes__txt": "mine"},
        {"config__json": OURS, "notes__txt": "mine"},
        {"config__json": '{"model_type": "llama"}', "model__safetensors": ""},
        {"model__safetensors": ""},
    ],
)
def test_a_folder_that_is_no_export_is_refused_by_name(tmp_path, files):
    folder = folder_of(tmp_path, **files)
    with pytest.raises(ValueError, match=r"out is there and .*; give another --out, or empty it"):
        check_own_export(folder, tmp_path / "run")
    with pytest.raises(ValueError, match="is a file"):
        check_own_export(next(folder.iterdir()), tmp_path / "run")


@pytest.mark.parametrize(
    "files", [{}, {"config__json": OURS}, {"config__json": OURS, "model__safetensors": "old"}]
)
def test_a_new_folder_an_empty_one_and_an_export_are_taken(tmp_path, files):
    check_own_export(folder_of(tmp_path, **files), tmp_path / "run")
    check_own_export(tmp_path / "new", tmp_path / "run")


def test_an_export_of_the_run_that_lost_its_description_is_mended(tmp_path):
    check_own_export(folder_of(tmp_path, model__safetensors="old"), tmp_path)


def test_what_a_killed_export_left_is_no_weight(tmp_path):
    folder = folder_of(tmp_path, model__safetensors="weights")
    before = hash_files(folder)
    (folder / ".tmp-12-model.safetensors").write_text("half")
    (folder / DESCRIPTION).write_text(OURS)
    assert hash_files(folder) == before
