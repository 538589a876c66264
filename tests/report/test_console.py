"""Results in the terminal."""

import io

from report_study import scores

from unify.answers.score_lines import score_lines
from unify.report.console import print_results


def test_console_prints_one_plain_line_per_metric_where_nobody_looks():
    rows = scores("ar_vq", 0) + scores("transfusion", 0)
    rows[0] = {**rows[0], "metric": "text_to_image/[bold]exact"}
    file = io.StringIO()
    print_results(rows, file=file)
    printed = file.getvalue()
    assert "\x1b" not in printed
    assert "[bold]" in printed
    assert len(printed.rstrip().splitlines()) == 1 + len(score_lines(rows))
    (accuracy,) = [x for x in printed.splitlines() if x.startswith("vqa/accuracy ")]
    figures = " ".join(accuracy.split()[1:])
    assert figures == "0.936 (0.911 to 0.954) 0.922 (0.895 to 0.942)"
    assert "n/a" in printed
