"""Tables of texts: what a row says is what is read, and a bad row costs itself alone."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tar_shards import captions, origins, picture, verdicts

from unify.data.adapters.importer import import_images
from unify.data.adapters.text_tables import BadRow, Csv, encoding_of, json_rows


@pytest.fixture
def base(tmp_path):
    """Four pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n, name in enumerate("abcd"):
        (folder / f"{name}.png").write_bytes(picture(n, "PNG"))
    return folder


def imported(base, name, rows, **options):
    """(caption or None of each record, (line, reason) of each verdict, the report)."""
    data = rows if isinstance(rows, bytes) else rows.encode()
    (base / name).write_bytes(data)
    out = base.parent / f"out-{name}-{len(list(base.parent.iterdir()))}"
    report = import_images(base / name, out, **options)
    lines = (out / "verdicts.jsonl").read_text().splitlines()
    bad = [(v["shard"].rpartition(":")[2], v["reason"]) for v in map(json.loads, lines)]
    return captions(out), bad, report


def refusal(base, name, rows, **options):
    (base / name).write_text(rows)
    with pytest.raises(ValueError) as caught:
        import_images(base / name, base.parent / "refused", **options)
    assert not (base.parent / "refused").exists()
    return str(caught.value)


BAD_ROWS = {
    "an unquoted comma": ("a.png,a cat, sitting on a mat\n", [("2", "ragged_row")]),
    "a quote that never closes": ('a.png,"a cat\n', [("2", "open_quote")]),
    "text after a closing quote": ('a.png,"a cat" sits\n', [("2", "open_quote")]),
    "a quote that the next row closes": (
        'a.png,"a cat\nb.png,a dog"\n',
        [("2", "open_quote"), ("3", "open_quote")],
    ),
    "a quote that closes three rows on": (
        'a.png,"a cat\nb.png,a dog\nd.png,a hen\na.png,an ox"\n',
        [("2", "open_quote"), ("5", "open_quote")],
    ),
    "a row without its caption": ("a.png\n", [("2", "missing_caption")]),
    "an empty caption": ("a.png,  \n", [("2", "empty_caption")]),
    "a row without its image": (",a cat\n", [("2", "missing_image")]),
    "NUL": ("a.png,a\0cat\n", [("2", "control_caption")]),
    "NUL in a name": ("a\0.png,a cat\n", [("2", "missing_image")]),
    "an escape sequence": ("a.png,a \x1b[31mcat\n", [("2", "control_caption")]),
    "text that is shown backwards": ("a.png,a \u202ecat\n", [("2", "control_caption")]),
    "nan, as pandas writes it": ("a.png,nan\n", [("2", "missing_caption")]),
    "NULL": ("a.png,NULL\n", [("2", "missing_caption")]),
    "an address": ("https://host/a.png,a cat\n", [("2", "missing_image")]),
    "a path out of the folder": ("../outside.png,a cat\n", [("2", "outside_path")]),
    "an absolute path": ("/etc/passwd,a cat\n", [("2", "outside_path")]),
    "a line of megabytes": (f"a.png,{'x' * 5_000_000}\n", [("2", "long_line")]),
    "a row of megabytes": (f'a.png,"{"x" * 70_000}"\n', [("2", "long_caption")]),
    "a folder for a picture": (".,a cat\n", [("2", "bad_row")]),
}


@pytest.mark.fault(20)
@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_has_one_verdict_with_its_line_and_the_others_are_read(base, name):
    rows, expected = BAD_ROWS[name]
    (base.parent / "outside.png").write_bytes(picture())
    kept, bad, _ = imported(base, "x.csv", f"image,caption\n{rows}c.png,a cow\n\nd.png,last\n")
    assert bad == expected
    between = {"a quote that closes three rows on": ["a dog", "a hen"]}.get(name, [])
    assert kept == [*between, "a cow", "last"]


def test_quoted_fields_are_read_as_they_were_meant(base):
    rows = 'image,caption\na.png,"one, ""two""\nthree"\nb.png,12" wide\nc.png,"" \nd.png,"x"\r\n'
    kept, bad, _ = imported(base, "x.csv", rows)
    assert kept == ['one, "two"\nthree', '12" wide', "x"]
    assert bad == [("5", "open_quote")]
    assert origins(base.parent)["a"] == "x.csv:2"
    assert origins(base.parent)["d"] == "x.csv:6"


def test_a_quote_that_never_closes_costs_a_tsv_one_row_or_none(base):
    rows = 'image\tcaption\na.png\t"Hello from the beach\nb.png\ta red boat\nc.png\t"a" \'quote\'\n'
    kept, bad, _ = imported(base, "x.tsv", rows)
    assert (kept, [reason for _, reason in bad]) == (["a red boat"], ["open_quote"] * 2)
    kept, bad, _ = imported(base, "y.tsv", rows, quotes=False)
    assert kept == ['"Hello from the beach', "a red boat", "\"a\" 'quote'"]
    assert bad == []


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_delimiter_and_encoding_are_found_and_said(base, delimiter, encoding):
    rows = f"file{delimiter}caption\na.png{delimiter}a café\nb.png{delimiter}one: two. three\n"
    kept, bad, report = imported(base, "x.csv", rows.encode(encoding))
    assert (kept, bad) == (["a café", "one: two. three"], [])
    assert f"fields between {'tabs' if delimiter == chr(9) else repr(delimiter)}" in report.notes[0]
    assert "columns file, caption" in report.notes[0]


def test_what_cannot_be_found_can_be_named(base):
    rows = "what^where\na café^a.png\n".encode("latin-1")
    named = {"delimiter": "^", "image": "where", "text": "what"}
    assert imported(base, "x.csv", rows, **named, encoding="latin-1")[0] == ["a café"]
    message = refusal(base, "y.csv", "what;where\na;b\n")
    assert "no delimiter gives a column image or" in message
    assert "'what;where'" in message
    assert "--delimiter" in message
    assert "no such encoding" in refusal(base, "y.csv", "file,text\n", encoding="nonsense")
    assert "one character" in refusal(base, "y.csv", "file,text\n", delimiter=";;")
    assert "names of its columns" in refusal(base, "y.csv", "")


def test_a_column_that_is_there_twice_is_refused_if_it_would_be_read(base):
    message = refusal(base, "x.csv", "image,caption,caption\na.png,a cat,a dog\n")
    assert "2 columns 'caption'" in message
    assert imported(base, "y.csv", "image,x,x,text\na.png,1,2,a cat\n")[0] == ["a cat"]


def test_captions_questions_and_edits_share_one_table(base):
    header = "image,source_image,instruction,caption,question,answer"
    rows = ["a.png,,,a cat,,", "b.png,,,,what is it?,a dog", "c.png,a.png,make it redder,,,"]
    rows += ["d.png,,,a hen,who?,None", "a.png,,do it,,,", "b.png,,,,what?,", "c.png,,,,,"]
    table = "\n".join([header, *rows])
    (base / "x.csv").write_text(table)
    report = import_images(base / "x.csv", base.parent / "out")
    lines = (base.parent / "out/records.jsonl").read_text().splitlines()
    assert [
        (row.get("text"), [t["answer"] for t in row.get("turns", [])], row.get("instruction"))
        for row in map(json.loads, lines)
    ] == [
        ("a cat", [], None),
        (None, ["a dog"], None),
        (None, [], "make it redder"),
        ("a hen", ["None"], None),  # an answer may be this word; a caption is none
    ]
    assert report.verdicts == {"missing_source": 1, "empty_answer": 1, "empty_caption": 1}
    nulls = [dict.fromkeys(header.split(",")) | {"image": f"{name}.png"} for name in "ab"]
    nulls[0]["caption"] = "a cat"
    nulls[1] |= {"question": "what?", "answer": "a dog"}
    (base / "x.jsonl").write_text("\n".join(map(json.dumps, nulls)))
    assert import_images(base / "x.jsonl", base.parent / "nulls").records == 2


BAD_LINES = {
    "nested 10,000 deep": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "a list nested 100,000 deep": '{"image": "a.png", "turns": ' + "[" * 100_000,
    "a line of megabytes": '{"image": "a.png", "caption": "' + "x" * 5_000_000 + '"}',
    "a number of 5,000 digits": '{"image": "a.png", "caption": "a", "n": ' + "9" * 5000 + "}",
    "a key with two values": '{"image": "a.png", "caption": "a", "caption": "b"}',
    "no key of an image": '{"caption": "a"}',
    "no key of a caption": '{"image": "a.png"}',
    "a caption that is not a number": '{"image": "a.png", "caption": NaN}',
    "a caption of a list": '{"image": "a.png", "caption": ["a", "b"]}',
    "an object for a picture": '{"image": {"a": 1}, "caption": "a"}',
    "not JSON": "image: a.png",
    "cut": '{"image": "a.png", "capt',
    "a question of a kind that is no text": '{"image": "a.png", "question": "a", "answer": "b", '
    '"kind": "\\ud800"}',
}


@pytest.mark.fault(20)
@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_of_json_has_one_verdict_and_the_others_are_read(base, name):
    good = [
        '{"image": "b.png", "caption": "one", "score": NaN}',
        '{"image": "c.png", "text": "two"}',
    ]
    lines = [good[0], "", BAD_LINES[name], good[1]]
    kept, bad, _ = imported(base, "x.jsonl", "\n".join(lines))
    assert kept == ["one", "two"]
    assert [line for line, _ in bad] == ["3"]


def test_json_lines_of_which_none_has_an_image_are_the_table_s_fault(base):
    message = refusal(base, "x.jsonl", '{"where": "a.png"}\n{"caption": "a", "where": "b.png"}\n')
    assert "no column image or" in message
    assert "it has where, caption" in message


def test_images_may_lie_below_another_folder_that_is_named(base):
    (base / "tables").mkdir()
    rows = f"image,text\na.png,one\n{base / 'b.png'},two\n../c.png,three\n"
    assert imported(base / "tables", "x.csv", rows, root=str(base))[0] == ["one", "two"]
    with pytest.raises(ValueError, match="outside_path: 1"):
        imported(base / "tables", "z.csv", f"image,text\n{base / 'b.png'},two\n")


# Rows as a writer of tables writes them, and damage

# Without NUL, which Python's reader may not take, and without the old Mac's end of a line, which
# its writer does not quote.
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)
ROWS = st.lists(st.tuples(st.sampled_from(["a.png", "b.png"]), CELL), max_size=6)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, delimiter=st.sampled_from(",;|\t"), end=st.sampled_from(["\n", "\r\n"]))
def test_what_a_writer_of_csv_writes_is_read_back(tmp_path_factory, rows, delimiter, end):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerows([("image", "caption"), *rows])
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    path.write_bytes(text.getvalue().encode())
    read = list(Csv(path, encoding_of(path), ("image",)).rows())
    assert [tuple(row.values.values()) for row in read] == rows


@settings(max_examples=300, deadline=None)
@given(
    lines=st.lists(st.text(st.sampled_from('ab.png,"; \n\r'), max_size=15), max_size=6),
    kind=st.sampled_from(["csv", "jsonl"]),
)
def test_whatever_a_table_holds_every_line_is_a_row_or_a_verdict(tmp_path_factory, lines, kind):
    path = tmp_path_factory.getbasetemp() / f"lines.{kind}"
    header = "image,caption\n" if kind == "csv" else ""
    path.write_bytes((header + "\n".join(lines) + "\nz.png,the last row\n").encode())
    rows = json_rows(path, "utf-8")
    if kind == "csv":
        rows = Csv(path, "utf-8", ("image",)).rows()
    read = list(rows)
    assert [row.number for row in read] == sorted({row.number for row in read})
    if kind == "csv":  # no open quote takes a row that stands in a line of its own
        last = read[-1]
        swallowed = '"' in "".join(lines) and isinstance(last, BadRow)
        assert swallowed or list(last.values.values()) == ["z.png", "the last row"]
        for row in read:
            if not isinstance(row, BadRow):
                assert "z.png,the last row" not in (row.values["caption"] or "")


def test_verdicts_name_the_key_that_two_values_have(base):
    (base / "x.jsonl").write_text(
        '{"image": "a.png", "text": "a", "text": "b"}\n{"image": "b.png", "text": "c"}\n'
    )
    import_images(base / "x.jsonl", base.parent / "out")
    assert verdicts(base.parent / "out") == [("", "bad_json")]
    assert "'text' is there twice" in (base.parent / "out/verdicts.jsonl").read_text()


NO_VALUES = [
    "NULL",
    " NULL",
    "Null",
    "nan ",
    "None",
    "\\N",
    "#N/A N/A",
    "1.#QNAN",
    "<NA>",
    "(null)",
]


@pytest.mark.parametrize("none", NO_VALUES)
def test_what_programs_write_for_no_value_is_never_a_text(base, none):
    rows = f"""image,caption,question,answer,source_image,instruction
a.png,a cat,{none},{none},{none},{none}
b.png,{none},,,,
c.png,,what?,nan,,
{none},a hen,,,,
d.png,x,,,a.png,{none}
"""
    texts, bad, _ = imported(base, "x.csv", rows)
    assert texts == ["a cat"]
    assert bad == [
        ("3", "missing_caption"),
        ("4", "bad_turns"),
        ("5", "missing_image"),
        ("6", "missing_instruction"),
    ]
    lines = [
        dict(zip(("image", "caption", "question", "answer"), row, strict=True))
        for row in (("a.png", "a cat", none, none), ("b.png", none, None, None))
    ]
    texts, bad, _ = imported(base, "x.jsonl", "\n".join(map(json.dumps, lines)))
    assert (texts, bad) == (["a cat"], [("2", "missing_caption")])


def test_words_that_only_look_like_no_value_are_texts(base):
    rows = """image,caption,question,answer
a.png,Nan,what is there?,None
b.png,Na,how many?,none
c.png,null and void,,
"""
    texts, bad, report = imported(base, "x.csv", rows)
    assert texts == ["Nan", "Na", "null and void"]
    assert bad == []
    lines = [json.loads(x) for x in Path(report.folder, "records.jsonl").read_text().splitlines()]
    assert [row["turns"][0]["answer"] for row in lines[:2]] == ["None", "none"]


def test_the_first_column_that_has_a_value_is_read(base):
    rows = [
        {"image": "a.png", "caption": None, "text": "x"},
        {"image": None, "file_name": "b.png", "text": "y"},
        {"image": "nan", "path": "c.png", "caption": " ", "title": "z"},
        {"image": "d.png", "source_image": "a.png", "caption": "not it", "instruction": None},
    ]
    texts, bad, _ = imported(base, "x.jsonl", "\n".join(map(json.dumps, rows)))
    assert texts == ["x", "y", "z"]
    assert bad == [("4", "missing_instruction")]
    texts, bad, report = imported(base, "x.csv", "image,caption,title\na.png,,t\nb.png,c,t\n")
    assert texts == ["t", "c"]
    assert "columns image, caption or title" in report.notes[0]


def test_an_open_quote_is_noticed_whatever_the_names_of_files(base):
    for name in "abcd":
        (base / name).write_bytes((base / f"{name}.png").read_bytes())
    rows = 'image,caption\na,"an open quote\nb,two\nc,three"\nd,four\n'
    texts, bad, _ = imported(base, "x.csv", rows)
    assert (texts, bad) == (["two", "four"], [("2", "open_quote"), ("4", "open_quote")])
    rows = 'image,caption\na.png,"an open quote\nb.png?x=1,two\nc.jpg.bak,three"\nd.png,four\n'
    texts, bad, _ = imported(base, "y.csv", rows)
    assert texts == ["four"]
    assert [line for line, _ in bad] == ["2", "3", "4"]
    rows = 'image,caption\na,"a list:\nbread, butter\nsee b.png, c"\nd,four\n'
    texts, bad, _ = imported(base, "z.csv", rows)
    assert (texts, bad) == (["a list:\nbread, butter\nsee b.png, c", "four"], [])


def test_a_text_whose_lines_could_all_be_rows_is_kept_and_said(base):
    rows = 'image,caption\na.png,"open\nmy photo,two\nc.svgz,three"\nb.png,four\n'
    texts, bad, report = imported(base, "x.csv", rows)
    assert (texts, bad) == (["open\nmy photo,two\nc.svgz,three", "four"], [])
    assert any("1 in quotes over several lines" in note for note in report.notes)
    _, _, report = imported(base, "y.csv", 'image,caption\na.png,"a list:\nbread\nsalt"\n')
    assert not any("in quotes" in note for note in report.notes)


def test_a_first_line_names_the_delimiter(base):
    for line in ("sep=;", '"sep=;"'):
        rows = f'{line}\nimage;caption\na.png;x, y\nb.png;"open\n'
        texts, bad, report = imported(base, "x.csv", rows)
        assert (texts, bad) == (["x, y"], [("4", "open_quote")])
        assert "fields between ';'" in report.notes[0]


@pytest.mark.parametrize("encoding", ["rot13", "hex", "zip", "idna", "punycode", "undefined"])
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_an_encoding_of_no_texts_is_refused_with_the_file(base, name, encoding):
    said = refusal(base, name, "image,caption\n", encoding=encoding)
    assert f"--encoding {encoding}" in said
    assert name in said


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_an_order_of_bytes_that_nothing_says_is_asked_for(base, encoding):
    said = refusal(base, "x.csv", "image,caption\n", encoding=encoding)
    assert f"x.csv has no byte-order mark; name the order too, {encoding}-le" in said
    rows = "image,caption\na.png,x\n".encode(encoding)
    assert imported(base, "x.csv", rows, encoding=encoding)[:2] == (["x"], [])


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r", "\0"])
def test_what_quotes_fields_or_ends_lines_is_no_delimiter(base, delimiter):
    assert "quotes fields" in refusal(base, "x.csv", "image,caption\n", delimiter=delimiter)
