"""A file's commit seals prompts: no other ones, and none before it is committed."""

import subprocess
from dataclasses import replace

import pytest
from shapes_oracle import WORLD, Oracle, measured, subject

from unify.metrics.sealed_prompts import seal_of, since
from unify.metrics.shapes_images import TextToImage
from unify.metrics.shapes_texts import VisualQuestions
from unify.metrics.speed import Speed


def git(folder, *arguments):
    who = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def design(tmp_path):
    """A committed file, and another that a later commit has changed."""
    git(tmp_path, "init", "-q")
    file = tmp_path / "answer.md"
    file.write_text("the hypotheses\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "The design")
    (tmp_path / "later.txt").write_text("something else\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "Another file")
    return file


def test_the_seal_is_the_commit_that_last_changed_the_file(design):
    first, last = git(design.parent, "rev-parse", "HEAD~1"), git(design.parent, "rev-parse", "HEAD")
    seal = seal_of(str(design))
    assert seal.commit == first != last
    assert seal.stream == int(first[:8], 16)
    assert first[:12] in seal.passport["sealed"]
    design.write_text("other hypotheses\n")
    git(design.parent, "commit", "-qam", "Another design")
    assert seal_of(str(design)).commit == git(design.parent, "rev-parse", "HEAD")
    assert seal_of(str(design)).stream != seal.stream


def test_a_file_that_git_does_not_have_as_it_is_seals_nothing(design, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.md: there is no such file.*committed"):
        seal_of(str(tmp_path / "nowhere.md"))
    new = tmp_path / "new.md"
    new.write_text("a draft\n")
    with pytest.raises(ValueError, match=r"new\.md: git does not know it.*commit"):
        seal_of(str(new))
    git(tmp_path, "add", "new.md")
    with pytest.raises(ValueError, match=r"new\.md: it differs from what is committed"):
        seal_of(str(new))
    design.write_text("changed after the runs\n")
    with pytest.raises(ValueError, match=r"answer\.md: it differs from what is committed"):
        seal_of(str(design))
    git(tmp_path, "add", "answer.md")
    with pytest.raises(ValueError, match="it differs"):
        seal_of(str(design))


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_what_git_was_told_to_overlook_is_seen(design, flag):
    git(design.parent, "update-index", flag, design.name)
    before = seal_of(str(design))
    design.write_text("changed after the runs\n")
    with pytest.raises(ValueError, match=r"answer\.md: it differs from what is committed"):
        seal_of(str(design))
    design.write_text("the hypotheses\n")
    assert seal_of(str(design)) == before


def test_a_link_and_an_empty_file_seal_nothing_and_signs_of_git_are_letters(design, tmp_path):
    (tmp_path / "link.md").symlink_to(design)
    (tmp_path / "empty.md").touch()
    (tmp_path / ":!odd *.md").write_text("a design\n")
    git(tmp_path, "--literal-pathspecs", "add", ":!odd *.md", "link.md", "empty.md")
    git(tmp_path, "commit", "-qm", "More")
    assert seal_of(str(tmp_path / ":!odd *.md")).path == ":!odd *.md"
    with pytest.raises(ValueError, match=r"link\.md: it is a link"):
        seal_of(str(tmp_path / "link.md"))
    with pytest.raises(ValueError, match=r"empty\.md: it is empty"):
        seal_of(str(tmp_path / "empty.md"))


def test_it_is_said_whether_another_file_is_as_it_was_then(design):
    seal, other = seal_of(str(design)), design.parent / "study.yaml"
    other.write_text("arms: {}\n")
    assert since(str(other), seal) == "not committed as it is"
    git(design.parent, "add", ".")
    git(design.parent, "commit", "-qm", "The study")
    head = git(design.parent, "rev-parse", "HEAD")
    assert since(str(other), seal) == f"changed later, at commit {head[:12]}"
    design.write_text("a later design\n")
    git(design.parent, "commit", "-qam", "Another design")
    assert since(str(other), seal_of(str(design))) == "committed no later"
    assert since(str(design), seal_of(str(design))) == "committed no later"


def test_line_ends_of_a_checkout_are_no_change(design):
    git(design.parent, "config", "core.autocrlf", "true")
    before = seal_of(str(design))
    design.unlink()
    git(design.parent, "checkout", design.name)
    assert design.read_bytes().endswith(b"\r\n")
    assert seal_of(str(design)) == before


def test_no_repository_and_a_clone_without_history_seal_nothing(design, tmp_path_factory):
    alone = tmp_path_factory.mktemp("alone") / "answer.md"
    alone.write_text("text\n")
    with pytest.raises(ValueError, match="no git repository"):
        seal_of(str(alone))
    shallow = tmp_path_factory.mktemp("clone") / "shallow"
    git(design.parent, "clone", "-q", "--depth", "1", f"file://{design.parent}", str(shallow))
    with pytest.raises(ValueError, match=r"lacks history.*unshallow"):
        seal_of(str(shallow / "answer.md"))


class Asked(Oracle):
    """Keeps the prompts and questions that it was given."""

    def __init__(self, world):
        super().__init__(world)
        self.asked = []

    def sample_image(self, request, sampler):
        self.asked += request.prompts
        return super().sample_image(request, sampler)

    def sample_text(self, request, sampler):
        self.asked += request.prompts
        return ["yes"] * len(request)


@pytest.mark.parametrize(
    "metric",
    [
        lambda sealed: TextToImage(prompts=30, heldout=0, geneval=0, sealed=sealed),
        lambda sealed: VisualQuestions(questions=40, heldout=0, sealed=sealed),
    ],
    ids=["drawing", "questions"],
)
def test_a_metric_asks_the_prompts_of_its_seal(metric, design):
    developed, sealed, again = Asked(WORLD), Asked(WORLD), Asked(WORLD)
    open_scores, _ = measured(metric(None), developed)
    scores, _ = measured(metric(str(design)), sealed)
    measured(metric(str(design)), again)
    assert sealed.asked == again.asked != developed.asked
    for name, score in scores.items():
        assert score.passport["sealed"] == seal_of(str(design)).passport["sealed"]
        assert "sealed" not in open_scores[name].passport
        assert score.passport["prompt_set"] != open_scores[name].passport["prompt_set"]


def test_an_open_seal_is_refused_before_training_and_when_scored(design):
    metric = TextToImage(prompts=4, heldout=0, geneval=0, sealed=str(design))
    metric.check(subject(Oracle(WORLD)))
    design.write_text("changed\n")
    with pytest.raises(ValueError, match="differs"):
        metric.check(subject(Oracle(WORLD)))
    with pytest.raises(ValueError, match="differs"):
        metric.measure(replace(subject(Oracle(WORLD))))


def test_stored_scores_depend_on_the_commit_of_their_seal(design):
    assert TextToImage.depends_on({"prompts": 4}) is None
    assert TextToImage.depends_on({"sealed": None}) is None
    assert TextToImage.depends_on({"sealed": str(design)}) == seal_of(str(design)).commit
    assert Speed.depends_on({"rows": 4}) is None
