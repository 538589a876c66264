"""The study report: complete, escaped, self-contained, and whole where pieces are missing."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image
from report_study import ARMS, PROMPTS, edit_json, scores, write_results, write_study

from unify.answers.study_records import load_study
from unify.answers.words import number
from unify.evaluation.image_grids import save_grid
from unify.metrics.metric import Grid
from unify.report.page import render, write_report
from unify.support.terminal import printable

VOID = {"meta", "img", "br", "input", "line", "path", "circle"}
EVIL = '<script>alert("x")</script>"\'><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """Counts elements, collects text and attributes, and fails on tags that do not nest."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.count[name] = self.count.get(name, 0) + 1
        self.attributes += [(name, key, value or "") for key, value in attributes]
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        assert name in VOID
        self.count[name] = self.count.get(name, 0) + 1

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(folder) -> Page:
    """The page alone: its figures, which take most of the time, are written where they matter."""
    return Page(render(load_study(folder)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("runs") / "quickstart")


@pytest.fixture
def study(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "quickstart")


def run_folder(study, arm):
    return next(study.glob(f"{arm}-s0-*"))


def test_every_number_of_the_results_is_on_the_page(finished):
    text = report(finished).text
    for row in json.loads((finished / "results.json").read_text()):
        assert row["metric"] in text
        for value in (row["value"], row["low"], row["high"]):
            assert value is None or number(value) in text
        assert f"{row['n']:,}" in text


FACTS = [
    "Codes or latents", "2026-01-02", "1.32 M", "812 k", "25,600", "15.6 T", "1 min 32 s",
    "Example CPU 3000, 2 cores", "2.15.0", "d34db33fcafe", "aabbccddeeff", "exploratory",
    "tokenizer/exact 0.992", "vqa: the same 25,600 samples",
    "unify study experiments/studies/quickstart.yaml", *PROMPTS,
]  # fmt: skip


def test_page_says_what_was_compared_with_which_budget_where_and_how_to_repeat_it(finished):
    text = report(finished).text
    for arm, (paradigm, doc) in ARMS.items():
        place = f"{finished.parent.name}/quickstart/{run_folder(finished, arm).name}"
        command = f"unify train -c {place}/config.yaml"
        assert [printed for printed in (arm, paradigm, doc, command) if printed not in text] == []
    assert [printed for printed in FACTS if printed not in text] == []


def test_page_is_self_contained_and_has_no_script(finished):
    page = report(finished)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.count)
    for _, key, value in page.attributes:
        assert not key.startswith("on")
        if key in ("src", "href"):
            kinds = ("data:image/png;base64,", "data:image/svg+xml;base64,")
            assert value.startswith((*kinds, "#"))
    (policy,) = [v for n, k, v in page.attributes if n == "meta" and v.startswith("default-src")]
    assert "default-src 'none'" in policy
    assert "script" not in policy
    style = render(load_study(finished)).split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme:dark" in style


def test_markup_in_any_string_of_the_data_stays_text(study):
    clean = report(study).count
    info = json.loads((study / "study.json").read_text())
    for about in info["arms"].values():
        about |= {"doc": EVIL, "paradigm": EVIL, "file": EVIL}
    edit_json(study / "study.json", title=EVIL, question=EVIL, arms=info["arms"])
    rows = json.loads((study / "results.json").read_text())
    rows += [{**rows[0], "metric": f"vqa/{EVIL.replace('/', '')}", "passport": {EVIL: EVIL}}]
    write_results(study, rows)
    for arm in ARMS:
        folder = run_folder(study, arm)
        edit_json(folder / "run.json", state=EVIL, environment={"cpu": EVIL, EVIL: EVIL}, data=EVIL,
             needed=[{"name": EVIL, "hash": EVIL}])  # fmt: skip
        (folder / "config.yaml").write_text(json.dumps({EVIL: EVIL, "steps": 400}))
        for about in folder.glob("*/*.json"):
            count = len(json.loads(about.read_text())["titles"])
            edit_json(
                about, name=EVIL if about.parent.name == "eval" else "x", titles=[EVIL] * count
            )
    page = report(study)
    assert page.count.get("script", 0) == 0
    assert page.count["img"] <= clean["img"]
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    assert page.text.count(EVIL) > 10


CAPTIONS = [
    EVIL,
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<script\n>alert(1)</script\t>",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</figcaption></figure></ol></section></main></body><script>alert(1)</script>",
    "--><script>alert(1)</script><!--",
    "]]><script>alert(1)</script>",
    "<<script>alert(1)//<</script>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img/src='x'/onerror='alert(1)'>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<math><mi xlink:href='data:text/html,<script>alert(1)</script>'>x</mi></math>",
    "<body onload=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<object data=javascript:alert(1)></object>",
    "<embed src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<link rel=stylesheet href=javascript:alert(1)>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base href=javascript:alert(1)//>",
    "<style>*{background:url(javascript:alert(1))}</style>",
    "<details open ontoggle=alert(1)>x</details>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\u202e<script>alert(1)</script>",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= alert(1) %>",
]


@pytest.mark.fault(30, times=len(CAPTIONS))
def test_hostile_captions_are_shown_as_they_are(study):
    shown: list[str] = []
    clean = report(study)
    for arm in ARMS:
        for about in run_folder(study, arm).glob("eval/*.json"):
            facts = json.loads(about.read_text())
            if "titles" in facts:
                count = len(facts["titles"])
                titles = [CAPTIONS[(len(shown) + i) % len(CAPTIONS)] for i in range(count)]
                edit_json(about, titles=titles)
                shown += titles
    page = report(study)
    shown_as = [" ".join(printable(caption).split()) for caption in CAPTIONS]
    gone = [caption for caption in shown_as if caption not in page.text]
    assert set(CAPTIONS) == set(shown)
    assert gone == []
    more = {name: n for name, n in page.count.items() if n > clean.count.get(name, 0)}
    assert not more.keys() & set(re.findall(r"(?<=<)[a-z]+", " ".join(CAPTIONS)))
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    assert not [value for _, key, value in page.attributes if value.startswith("javascript:")]


def test_equal_input_gives_equal_bytes(study):
    first = write_report(study).read_bytes()
    assert write_report(study).read_bytes() == first


def test_page_is_small(finished):
    assert write_report(finished).stat().st_size < 1_000_000


def test_missing_pieces_leave_the_rest_standing(study):
    crashed = run_folder(study, "transfusion")
    shutil.rmtree(crashed / "eval")
    (crashed / "config.yaml").unlink()
    info = json.loads((crashed / "run.json").read_text())
    for late in ("rows_per_step", "flops_per_step", "train_seconds"):
        del info[late]
    (crashed / "run.json").write_text(json.dumps({**info, "state": "failed"}))
    journal = (crashed / "journal.jsonl").read_text().splitlines()
    (study / "transfusion-s0.error.txt").write_text("Traceback\n  x\nNonFiniteError: sample 7\n")
    (crashed / "journal.jsonl").write_text("\n".join(journal[:60]) + '\n{"step": 155, "ki')
    write_results(study, scores("ar_vq", 0))
    text = report(study).text
    assert "failed at 150 of 400 steps" in text
    assert "NonFiniteError: sample 7" in text
    assert "9,600" in text  # samples seen: 150 steps of 64 rows
    assert "n/a" in text
    assert "vqa: the same 9,600 samples first, of 25,600 and 9,600" in text


@pytest.mark.parametrize(
    "gone", ["run.json", "journal.jsonl", "everything", "runs", "results.json"]
)
def test_a_run_that_wrote_nothing_does_not_break_the_page(study, gone):
    folder = run_folder(study, "ar_vq")
    if gone == "runs":
        for arm in ARMS:
            shutil.rmtree(run_folder(study, arm))
    elif gone == "everything":
        shutil.rmtree(folder)
        folder.mkdir()
    else:
        ((study if gone == "results.json" else folder) / gone).unlink()
    assert "transfusion" in report(study).text


def test_damaged_picture_is_said_and_a_sheet_without_boxes_is_shown_whole(study):
    folder = run_folder(study, "ar_vq") / "eval"
    (folder / "caption.png").write_bytes((folder / "caption.png").read_bytes()[:300])
    about = json.loads((folder / "text_to_image.json").read_text())
    (folder / "text_to_image.json").write_text(
        json.dumps({k: about[k] for k in ("name", "titles")})
    )
    page = report(study)
    assert "could not be read" in page.text
    assert page.count["ol"] == 1


def test_a_folder_that_is_no_study_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"study\.json"):
        write_report(tmp_path)


def test_embedded_pictures_are_the_originals_not_their_enlargements(study):
    folder = run_folder(study, "ar_vq") / "eval"
    image = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    save_grid(Grid("only", image / 127.5 - 1, ["x"], [True]), folder / "only.png")
    html = write_report(study).read_text()
    shown = [
        Image.open(io.BytesIO(base64.b64decode(code)))
        for code in re.findall(
            r"base64,([^\"]+)", html.split("<h3>only</h3>")[1].split("</section>")[0]
        )
    ]
    assert [s.size for s in shown] == [(32, 32)]
    pixels = torch.tensor(list(shown[0].convert("RGB").getdata())).T.reshape(3, 32, 32)
    assert torch.equal(pixels, image[0])


def test_split_rows_are_noted_on_the_page(study):
    rows = json.loads((study / "results.json").read_text())
    rows[0]["passport"]["prompts"] = "another set"
    write_results(study, rows)
    assert "measured differently" in report(study).text


def test_page_of_several_seeds_says_mean_range_and_exploratory(tmp_path):
    text = report(write_study(tmp_path / "three", seeds=(0, 1, 2), steps=40)).text
    rows = [r for arm in ["ar_vq"] for s in (0, 1, 2) for r in scores(arm, s)]
    exact = [r["value"] for r in rows if r["metric"] == "text_to_image/exact"]
    assert number(sum(exact) / 3) in text
    assert f"{number(min(exact))}–{number(max(exact))}" in text
    assert "exact primary n 512" in text
    assert "exploratory" in text
    assert "Seeds 0 to 2" in text


def test_needed_runs_are_found_and_their_cost_is_shown(study):
    folder = study.parent / "tokenizers" / "vae-s0-0123456789ab"
    folder.mkdir(parents=True)
    about = {"arm": "vae", "seed": 0, "state": "finished", "steps": 300, "train_seconds": 61.0}
    about["rows_per_step"] = 64

    (folder / "run.json").write_text(json.dumps(about))
    needed = {
        "vae.yaml": {"name": "vae", "hash": "aabbccddeeff", "folder": f"runs/x/{folder.name}"}
    }
    edit_json(run_folder(study, "transfusion") / "run.json", needed=needed)
    text = report(study).text
    assert "300 steps, 1 min 1 s" in text
    assert "Training time of needed runs" in text
