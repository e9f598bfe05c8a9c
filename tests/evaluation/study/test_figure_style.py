"""One style for figures: formats, text that stays text, the same file twice, lines that differ."""

import pytest

from mammo_d2.evaluation.study.figure_style import FIGURE_FORMATS, PALETTE, line_look, new_axes, plain_text, save_figure


def draw(path, title="a title"):
    figure, axes = new_axes(title)
    axes.plot([0, 1], [0, 1], **line_look(0))
    return save_figure(figure, path)


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_formats(tmp_path, kind, start):
    first, second = draw(tmp_path / f"a.{kind}").read_bytes(), draw(tmp_path / f"b.{kind}").read_bytes()
    assert first.startswith(start)
    assert first == second  # no date, no random ids
    assert {"png", "pdf", "svg"} == set(FIGURE_FORMATS)


def test_text_stays_text(tmp_path):
    assert "a title" in draw(tmp_path / "a.svg").read_text()
    pdf = draw(tmp_path / "a.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"/Type0" in pdf


def test_lines_differ_in_print():
    looks = [tuple(line_look(n).values()) for n in range(28)]
    assert len(set(looks)) == 28
    assert [look[0] for look in looks[:7]] == list(PALETTE)
    assert looks[0][1] != looks[1][1]


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match="figures are written as png, pdf, svg"):
        draw(tmp_path / "a.bmp")
    assert plain_text("5 $") == "5 \\$"
