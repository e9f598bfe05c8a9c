import cv2
import numpy as np

from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.data.prepare.written.contact_sheet import write_contact_sheet
from tests.data.toy_source import write_breasts


def write_set(tmp_path, positives, negatives):
    keys = [f"p{i}" for i in range(positives)] + [f"n{i}" for i in range(negatives)]
    write_breasts(tmp_path, keys)
    builder = CocoBuilder()
    for key in keys:
        image_id = builder.add_image(f"{key}.png", 400, 300, breast_box=[0, 40, 180, 320])
        if key[0] == "p":
            builder.add_annotation(image_id, [60, 100, 60, 40], "malignant")
    builder.write(tmp_path / "train.json")
    return tmp_path / "train.json"


def red(tile):
    return ((tile[..., 2] > 200) & (tile[..., 0] < 120) & (tile[..., 1] < 120)).sum()


def test_sheet_shows_boxes_where_they_are(tmp_path):
    write_contact_sheet([write_set(tmp_path, 1, 0)], tmp_path, tmp_path / "check.png", 1, tile=418)
    sheet = cv2.imread(str(tmp_path / "check.png"))
    assert sheet.shape == (418, 418, 3)
    # The tile shows the image at scale 1 (418 - 18 = 400 rows): the box's border is at x = 60 and 120, y = 100 and 140.
    rows, cols = np.nonzero((sheet[..., 2] > 200) & (sheet[..., 0] < 120) & (sheet[..., 1] < 120))
    assert abs(cols.min() - 60) <= 1
    assert abs(cols.max() - 120) <= 1
    assert abs(rows.min() - 100) <= 1
    assert abs(rows.max() - 140) <= 1


def test_negatives_have_their_share(tmp_path):
    write_contact_sheet([write_set(tmp_path, 6, 6)], tmp_path, tmp_path / "check.png", 4, tile=100)
    sheet = cv2.imread(str(tmp_path / "check.png"))
    tiles = [sheet[y : y + 100, x : x + 100] for y in (0, 100) for x in (0, 100)]
    assert [bool(red(t)) for t in tiles] == [True, True, True, False]


def test_empty_set_draws_nothing(tmp_path):
    CocoBuilder().write(tmp_path / "empty.json")
    write_contact_sheet([tmp_path / "empty.json"], tmp_path, tmp_path / "check.png")
    assert not (tmp_path / "check.png").exists()
