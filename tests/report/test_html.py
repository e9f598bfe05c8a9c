"""The HTML report: what stands in it, what is escaped, and that it needs nothing else."""

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from mammo_d2.pictures.drawing import encode_png
from mammo_d2.report.html import (
    DASH,
    DISCLAIMER,
    Details,
    Figure,
    Figures,
    Heading,
    Note,
    Section,
    Stats,
    Table,
    Terms,
    Text,
    format_number,
    render_report,
    write_report,
)

NASTY = "<script>alert('x')</script> & \"quotes\""
ESCAPED = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;quotes&quot;"
PNG = encode_png(np.full((3, 7), 128, np.uint8))


class TagBalance(HTMLParser):
    """Collects tags; fails on one that is closed without having been opened."""

    VOID = frozenset({"meta", "img"})

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def everything(text):
    return [
        Section(
            text,
            [
                Heading(text),
                Text(text),
                Text(text, small=True),
                Note(text),
                Stats([(0.5, text)]),
                Table([text], [[text]], caption=text),
                Terms([(text, text)]),
                Figures([Figure(PNG, text)], small=True),
                Details(text, text),
            ],
        )
    ]


def test_every_text_is_escaped():
    html = render_report(NASTY, [*everything(NASTY), Section("second", [])], NASTY)  # a page of one has no navigation
    assert "<script" not in html
    # Title and heading, subtitle, section twice; heading, texts, note, stats; table 3, terms 2, figure 2, details 2.
    assert html.count(ESCAPED) == 2 + 1 + 2 + 5 + 3 + 2 + 2 + 2


def test_page_is_well_formed_and_has_nothing_external():
    page = TagBalance()
    html = render_report("Run", everything("text"))
    page.feed(html)
    assert page.open == []
    assert not re.search(r"https?://|@import|url\(", html)
    tags = {tag for tag, _ in page.seen}
    assert not tags & {"script", "link", "iframe", "object"}
    sources = [attrs["src"] for _, attrs in page.seen if "src" in attrs]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    policy = next(attrs for tag, attrs in page.seen if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none'")


def test_navigation_leads_to_the_sections():
    page = TagBalance()
    page.feed(render_report("Run", [Section("Data set A", []), Section("Data set A", [])]))
    targets = [attrs["href"] for tag, attrs in page.seen if tag == "a"]
    anchors = ["#" + attrs["id"] for tag, attrs in page.seen if tag == "section"]
    assert targets == anchors == ["#s1-data-set-a", "#s2-data-set-a"]


def test_the_disclaimer_is_always_there():
    assert "no medical device" in DISCLAIMER
    assert DISCLAIMER in render_report("Run", [])


def test_table_aligns_and_rounds_numbers():
    html = Table(["name", "value"], [["a", 0.123456], ["b", None], ["c", float("nan")], ["d", True]]).html()
    assert '<th scope="col" class="number">value</th>' in html
    cells = re.findall(r'<td class="number">(.*?)</td>', html)
    assert cells == ["0.123", DASH, DASH, "True"]
    assert '<th scope="row">a</th>' in html


def test_table_refuses_rows_of_another_length():
    with pytest.raises(ValueError, match=r"1 cells for the columns"):
        Table(["a", "b"], [["x"]])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (17, "17"),
        (np.int64(1200), "1200"),
        (1200.0, "1200"),
        (1.0, "1.000"),
        (0.0, "0.000"),
        (0.65, "0.650"),
        (np.float32(0.0123456), "0.0123"),
        (-0.0004, "-0.0004"),
        (1e-7, "1e-07"),
        (float("nan"), DASH),
        (float("inf"), "∞"),
    ],
)
def test_numbers_as_text(value, text):
    assert format_number(value) == text


def test_figure_carries_the_picture_with_its_size():
    html = Figure(PNG, "a picture", plot=True).html()
    assert 'width="7" height="3"' in html
    assert 'class="plot"' in html
    assert base64.b64decode(re.search(r"base64,([^\"]+)", html).group(1)) == PNG


def test_figure_refuses_what_is_no_png():
    with pytest.raises(ValueError, match="'photo' of a report must be the bytes of a PNG"):
        Figure(b"\xff\xd8\xff\xe0", "photo")


def test_written_file_is_utf8_and_complete(tmp_path):
    path = write_report(tmp_path / "new" / "report.html", "Größe ≥ 0.5", [Section("S", [Text("naïve")])], "made today")
    html = path.read_text(encoding="utf-8")
    assert html.startswith("<!DOCTYPE html>")
    assert html.rstrip().endswith("</html>")
    assert "<h1>Größe ≥ 0.5</h1>" in html
    assert "prefers-color-scheme: dark" in html
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
