"""All that a report says, and the words by which it says that arms were told apart."""

import re

from unify.answers.answers_json import answers_content
from unify.answers.study_answers import study_answers
from unify.answers.study_records import load_study
from unify.answers.summary import summary
from unify.report.figures import drawings
from unify.report.page import render
from unify.report.table_files import markdown
from unify.support.strict_json import strict_json

# what says that arms were told apart, or were not
VERDICT = re.compile(
    r"told apart|distinguishable|\b(is|are) (higher|lower) than|\b(dis)?agrees\b|>(higher|lower)<"
    r"|as good as equal|did not come out|do not cross|disagree"
)


def texts(folder):
    """All that a report says, by file; of figures their captions."""
    study = load_study(folder)
    answers = study_answers(study)
    figures = [f"{one.title} {one.caption} {one.text}" for one in drawings(answers).values()]
    return {
        "page": re.sub(r"<style>.*?</style>", "", render(study), flags=re.DOTALL),
        "report.md": markdown(answers, summary(answers)),
        "answers.json": strict_json(answers_content(answers)),
        "figures": " ".join(figures),
    }
