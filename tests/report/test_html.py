"""Markup: every string is escaped unless it is markup already."""

from unify.report.html import join, tag


def test_tag_escapes_all_but_markup():
    assert tag("td", "a < b", tag("b", "&"), class_='"') == (
        '<td class="&quot;">a &lt; b<b>&amp;</b></td>'
    )
    assert join([None, 1, "<"]) == "1&lt;"
