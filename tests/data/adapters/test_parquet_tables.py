"""Parquet tables: images as bytes, as Hugging Face stores them, and as paths."""

import pyarrow as pa
import pytest
from pyarrow import parquet
from tar_shards import captions, origins, picture, verdicts

from unify.data.adapters.importer import import_images


def written(path, **columns):
    parquet.write_table(pa.table(columns), path, row_group_size=4)
    return path


def images(n):
    return [picture(i, "PNG") for i in range(n)]


def test_images_are_read_from_bytes_structs_and_paths(tmp_path):
    for i, data in enumerate(images(3)):
        (tmp_path / f"p{i}.png").write_bytes(data)
    text = ["zero", "one", "two"]
    structs = [{"bytes": data, "path": f"p{i}.png"} for i, data in enumerate(images(3))]
    files = [{"bytes": None, "path": f"p{i}.png"} for i in range(3)]
    tables = {
        "bytes": written(tmp_path / "bytes.parquet", jpg=images(3), caption=text, key=list("abc")),
        "structs": written(tmp_path / "structs.parquet", image=structs, text=text),
        "files": written(tmp_path / "files.parquet", image=files, text=text),
        "paths": written(
            tmp_path / "paths.parquet", file_name=["p0.png", "p1.png", "p2.png"], text=text
        ),
    }
    shards = set()
    for name, path in tables.items():
        report = import_images(path, tmp_path / name)
        assert (captions(tmp_path / name), dict(report.verdicts)) == (text, {})
        shards.add((tmp_path / name / "shard-000000.tar").read_bytes())
    assert len(shards) == 2  # of two kinds of keys
    assert origins(tmp_path / "bytes") == {
        k: f"bytes.parquet:row {n}" for n, k in enumerate("abc", 1)
    }
    assert origins(tmp_path / "paths")["p2"] == "paths.parquet:row 3"


@pytest.mark.fault(20, times=7)
def test_a_bad_row_has_one_verdict(tmp_path):
    data = [*images(7), None]
    data[1], data[2] = b"", b"no picture"
    text = ["a", "b", "c", None, "", "nan", "e", "f"]
    table = written(tmp_path / "x.parquet", image=data, text=text, other=list(range(8)))
    report = import_images(table, tmp_path / "out")
    assert captions(tmp_path / "out") == ["a", "e"]
    assert [reason for _, reason in verdicts(tmp_path / "out")] == [
        *("empty_image", "unsupported_format", "missing_caption", "empty_caption"),
        *("missing_caption", "missing_image"),
    ]
    path = written(tmp_path / "lists.parquet", image=images(2), text=[["a", "b"], ["c"]])
    with pytest.raises(ValueError, match="bad_caption: 2"):
        import_images(path, tmp_path / "lists")
    assert report.records == 2


def test_damage_costs_a_row_group_and_what_is_no_table_is_named(tmp_path):
    table = written(tmp_path / "x.parquet", image=images(12), text=[f"text {i}" for i in range(12)])
    data = bytearray(table.read_bytes())
    column = parquet.ParquetFile(table).metadata.row_group(1).column(1)
    place = column.dictionary_page_offset or column.data_page_offset
    data[place : place + 40] = b"\xff" * 40
    table.write_bytes(data)
    report = import_images(table, tmp_path / "out")
    assert captions(tmp_path / "out") == [f"text {i}" for i in (*range(4), *range(8, 12))]
    assert report.verdicts == {"broken_table": 1}
    (tmp_path / "y.parquet").write_bytes(data[:100])
    with pytest.raises(ValueError, match=r"y\.parquet is no Parquet table"):
        import_images(tmp_path / "y.parquet", tmp_path / "none")
    with pytest.raises(ValueError, match=r"no column image or .*it has what"):
        import_images(written(tmp_path / "z.parquet", what=["a"]), tmp_path / "none")


def test_a_folder_of_tables_is_read_in_order_and_a_broken_one_costs_itself(tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    for n in range(2):
        text = [f"{n}"]
        written(tmp_path / "set" / "data" / f"{n}.parquet", image=images(1), text=text)
    (tmp_path / "set" / "data" / "2.parquet").write_bytes(b"PAR1")
    report = import_images(tmp_path / "set", tmp_path / "out")
    assert captions(tmp_path / "out") == ["0", "1"]
    assert report.verdicts == {"broken_table": 1}
