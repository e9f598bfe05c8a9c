import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.film.ddsm_overlay import Film, chain_points, read_case, read_overlay

ICS = """ics_version 1.0
filename A-1141-1
DATE_OF_STUDY 2 7 1995
PATIENT_AGE 64
FILM
FILM_TYPE REGULAR
DENSITY 3
DATE_DIGITIZED 7 30 1997
DIGITIZER HOWTEK  43.5
SEQUENCE
LEFT_CC LINES 90 PIXELS_PER_LINE 60 BITS_PER_PIXEL 12 RESOLUTION 43.5 OVERLAY
LEFT_MLO LINES 90 PIXELS_PER_LINE 61 BITS_PER_PIXEL 12 RESOLUTION 43.5 NON_OVERLAY
RIGHT_CC LINES 90 PIXELS_PER_LINE 60 BITS_PER_PIXEL 12 RESOLUTION 43.5 NON_OVERLAY
RIGHT_MLO LINES 90 PIXELS_PER_LINE 60 BITS_PER_PIXEL 12 RESOLUTION 43.5 NON_OVERLAY
"""
# A square of 11 x 11 pixels from (10, 20), and a core of 3 x 2 in it.
SQUARE = "10 20 " + "2 " * 10 + "4 " * 10 + "6 " * 10 + "0 " * 10 + "#"
OVERLAY = f"""TOTAL_ABNORMALITIES 2
ABNORMALITY 1
LESION_TYPE MASS SHAPE IRREGULAR MARGINS SPICULATED
LESION_TYPE CALCIFICATION TYPE PLEOMORPHIC DISTRIBUTION CLUSTERED
ASSESSMENT 5
SUBTLETY 4
PATHOLOGY MALIGNANT
TOTAL_OUTLINES 2
BOUNDARY
{SQUARE}
\tCORE
12 22 2 2 4 6 6 0 #
ABNORMALITY 2
LESION_TYPE MASS SHAPE OVAL MARGINS CIRCUMSCRIBED
ASSESSMENT 2
SUBTLETY 3
PATHOLOGY BENIGN_WITHOUT_CALLBACK
TOTAL_OUTLINES 3
BOUNDARY
40 50 2 4 6 0 #
"""


def write(path, text):
    path.write_text(text)
    return path


def test_a_case(tmp_path):
    case = read_case(write(tmp_path / "A-1141-1.ics", ICS))
    assert (case.digitizer, case.density) == ("HOWTEK 43.5", "3")
    assert list(case.films) == ["LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO"]
    assert case.films["LEFT_MLO"] == Film("LEFT_MLO", 90, 61, 12, 43.5, False)
    assert case.films["LEFT_CC"].has_overlay


def test_an_overlay_with_fewer_outlines_than_it_says(tmp_path):
    first, second = read_overlay(write(tmp_path / "A_1141_1.LEFT_CC.OVERLAY", OVERLAY))
    assert (first.pathology, first.assessment, first.subtlety) == ("MALIGNANT", "5", "4")
    assert [kind.split()[0] for kind in first.kinds] == ["MASS", "CALCIFICATION"]
    boundary, core = first.outlines
    assert (boundary[0], boundary[10], boundary[20], boundary[30]) == ((10, 20), (20, 20), (20, 30), (10, 30))
    assert (len(boundary), boundary[-1]) == (41, (10, 20))
    assert core == ((12, 22), (13, 22), (14, 22), (14, 23), (13, 23), (12, 23), (12, 22))
    assert (second.pathology, len(second.outlines)) == ("BENIGN_WITHOUT_CALLBACK", 1)


def test_all_eight_directions():
    steps = [point for n in range(8) for point in [chain_points(["5", "5", str(n), "#"])[1]]]
    assert steps == [(5, 4), (6, 4), (6, 5), (6, 6), (5, 6), (4, 6), (4, 5), (4, 4)]
    assert chain_points(["5", "5", "2", "2#"]) == ((5, 5), (6, 5), (7, 5))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("PATHOLOGY MALIGNANT", "PATHOLOGY PENDING", "line 13: PATHOLOGY 'PENDING' must be one of MALIGNANT, BENIGN"),
        ("12 22 2 2 4 6 6 0 #", "12 22 2 2 4", "line 12: the outline's chain code does not end with #"),
        ("12 22 2 2 4", "12 22 2 9 4", "line 12: the directions of a chain code are 0 to 7"),
        ("12 22 2 2 4", "12 22 2 x 4", "line 12: a chain code holds whole numbers only"),
        ("TOTAL_ABNORMALITIES 2", "TOTAL_ABNORMALITIES 3", "TOTAL_ABNORMALITIES '3', but 2 are there"),
        ("40 50 2 4 6 0 #\n", "", "last abnormality: no outline"),
    ],
)
def test_a_damaged_overlay(tmp_path, old, new, message):
    with pytest.raises(ConverterError, match=message):
        read_overlay(write(tmp_path / "a.OVERLAY", OVERLAY.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("LINES 90 PIXELS_PER_LINE 61", "LINES 90", "line 12 .*expected LINES, PIXELS_PER_LINE and BITS_PER_PIXEL"),
        ("RESOLUTION 43.5 NON_OVERLAY", "RESOLUTION 43.5", "line 12 .*must end with OVERLAY or NON_OVERLAY"),
        ("BITS_PER_PIXEL 12", "BITS_PER_PIXEL 40", "line 11 .*bits outside 8..16"),
    ],
)
def test_a_damaged_case(tmp_path, old, new, message):
    with pytest.raises(ConverterError, match=message):
        read_case(write(tmp_path / "a.ics", ICS.replace(old, new)))


def test_a_file_that_is_no_case(tmp_path):
    with pytest.raises(ConverterError, match="no line begins with LEFT_CC"):
        read_case(write(tmp_path / "a.ics", "something else\n"))
