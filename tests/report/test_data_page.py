"""The page about data: whole, in one file, and nothing of a caption is markup on it."""

import json
import re
from html.parser import HTMLParser

import pytest
from odd_shards import MARKUP, RIGHT_TO_LEFT, write_odd_shards
from tar_shards import picture, tar

from unify.data.adapters.index import index_folder
from unify.data.describe.describe import describe
from unify.data.describe.shard_reader import ShardReader
from unify.data.shards import Shards
from unify.report.data_page import page, write_data_page

ABOUT = {"name": "mine", "kind": "shards", "fingerprint": "0" * 12, "tokenizer": ""}


def made(folder, **about):
    description = describe(ShardReader(Shards(str(folder))), 100)
    description.facts = ABOUT | about | description.facts
    return description


class Tags(HTMLParser):
    """Names of elements, and attributes of each name."""

    def __init__(self, text):
        super().__init__()
        self.names, self.open, self.values = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.values += [value for name, value in attributes if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.names.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return made(write_odd_shards(tmp_path_factory.mktemp("odd") / "data"))


@pytest.fixture(scope="module")
def html(odd):
    return page(odd)


def test_the_page_is_one_file_of_whole_elements(html):
    tags = Tags(html)
    assert tags.open == []
    assert not {"script", "link", "iframe"} & {*tags.names}
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in tags.values)
    assert tags.names.count("img") >= 10


def test_captions_are_text(html):
    assert MARKUP not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;b&gt;bold" in html
    assert re.search(rf'<figcaption dir="auto">{RIGHT_TO_LEFT}', html)


def test_every_section_is_there_and_bad_records_are_named(html):
    sections = re.findall(r'<section id="(\w+)"', html)
    assert sections == ["examples", "counts", "pictures", "texts", "copies", "bad", "measured"]
    for reason in ("animated_image", "corrupt_image", "empty_caption", "missing_caption"):
        assert reason in html
    assert "4 bad records are left out." in html
    assert "A script is no language" in html


def test_keys_and_reasons_from_elsewhere_are_text(odd, tmp_path):
    bad = {"shard": "<i>", "key": "<img src=x onerror=y>", "reason": "<b>", "detail": '"><script>'}
    facts = {**odd.facts, "name": "</title><script>", "kind": "<u>"}
    facts["bad"] = {"records": 1, "reasons": {"<b>": 1}, "first": [bad]}
    odd.facts, before = facts, odd.facts
    try:
        tags = Tags(page(odd))
    finally:
        odd.facts = before
    assert not {"script", "i", "u"} & {*tags.names}


def test_equal_data_give_equal_pages(odd, html, tmp_path):
    assert page(made(write_odd_shards(tmp_path / "data"))) == html
    assert json.loads(json.dumps(odd.facts)) == odd.facts


def test_pictures_without_texts_and_one_record_have_a_page(tmp_path):
    turns = b'{"question": "how many?", "answer": "two"}'
    tar(tmp_path / "x.tar", [("a.jpg", picture(1)), ("a.json", turns)])
    index_folder(tmp_path)
    html = page(made(tmp_path))
    assert Tags(html).open == []
    assert "None was found." in html


def test_a_file_of_another_is_not_replaced(odd, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<title>mine</title>")
    with pytest.raises(ValueError, match="is not of unify's making"):
        write_data_page(odd, path)
    path.unlink()
    write_data_page(odd, path)
    write_data_page(odd, path)
    with pytest.raises(ValueError, match="is a folder"):
        write_data_page(odd, tmp_path)
