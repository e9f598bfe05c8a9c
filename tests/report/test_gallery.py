"""Choice of the examples, by hand-made lesions and boxes."""

import cv2
import numpy as np
import pytest

from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.report.gallery import choose_examples, evaluation_data, gallery_blocks
from mammo_d2.report.html import Figures, Heading, Text

RULE = HitRule("iou", 0.5)


def record(image_id, *boxes, category=0, **extra):
    annotations = [{"bbox": list(box), "bbox_mode": 1, "category_id": category, **extra} for box in boxes]
    return {"image_id": image_id, "height": 100, "width": 100, "annotations": annotations, "file_name": "none.png"}


def entry(image_id, box, score, category=2):
    return {"image_id": image_id, "category_id": category, "bbox": list(box), "score": score}


def data(records, predictions, classes=("malignant",), class_of=None):
    return evaluation_data(records, classes, predictions, class_of or {2: 0})


def test_found_missed_and_false_positives():
    lesion = (10, 10, 20, 20)
    tables = data(
        [record("a", lesion), record("b", lesion), record("c", lesion), record("d")],
        [
            entry("a", lesion, 0.6),
            entry("a", (12, 10, 20, 20), 0.8),  # IoU 18/22: a better hit by score
            entry("b", lesion, 0.4),  # hits, but below the threshold
            entry("c", (60, 60, 20, 20), 0.7),
            entry("d", (5, 5, 9, 9), 0.3),
            entry("d", (50, 5, 9, 9), 0.9),
        ],
    )
    examples = choose_examples(tables, RULE, [0.5])
    assert [(e.image, e.detection, e.score) for e in examples.found] == [(0, 1, 0.8)]
    assert [(e.image, e.detection) for e in examples.missed] == [(1, 2), (2, -1)]
    assert examples.missed[0].score == 0.4
    assert np.isnan(examples.missed[1].score)
    # One per image, the highest score first; a hit below the threshold is no false positive.
    assert [(e.image, e.score) for e in examples.false_positives] == [(3, 0.9), (2, 0.7)]
    assert examples.counts == (1, 2, 3)


def test_score_at_the_threshold_is_accepted():
    tables = data([record("a", (0, 0, 9, 9))], [entry("a", (0, 0, 9, 9), 0.5)])
    assert len(choose_examples(tables, RULE, [0.5]).found) == 1


def test_box_of_another_class_is_no_hit():
    tables = data([record("a", (0, 0, 9, 9), category=1)], [entry("a", (0, 0, 9, 9), 0.9, 1)], ("x", "y"), {1: 0, 2: 1})
    examples = choose_examples(tables, RULE, [0.0, 0.0])
    assert examples.counts == (0, 1, 1)


def test_crowd_regions_are_neither_missed_nor_false():
    tables = data([record("a", (0, 0, 9, 9), iscrowd=1)], [entry("a", (0, 0, 9, 9), 0.9)])
    assert choose_examples(tables, RULE, [0.5]).counts == (0, 0, 0)


def test_boxes_on_positive_images_without_box_and_on_unknown_ones_are_no_false_positives():
    labels = [{"malignant": 1}, {"malignant": None}, {"malignant": 0}]
    records = [{**record(number), "labels": values} for number, values in enumerate(labels)]
    # Boxes of the image decide, whatever is known of the others.
    records.append({**record(3, (0, 0, 9, 9)), "labels": {"malignant": 1}})
    tables = data(records, [entry(number, (50, 50, 9, 9), 0.5 + number / 10) for number in range(4)])
    examples = choose_examples(tables, RULE, [0.5])
    assert [(e.image, e.score) for e in examples.false_positives] == [(3, 0.8), (2, 0.7)]
    assert (examples.counts, examples.unjudged) == ((0, 1, 2), 2)
    texts = [block.text for block in gallery_blocks(records, tables, examples, [0.5]) if isinstance(block, Text)]
    assert texts[-1] == (
        "2 more boxes are on images that show their class without a box of it, or whose label is unknown: they may be "
        "right and are not counted here."
    )


def test_limit_keeps_the_best_and_the_worst_found():
    lesion = (10, 10, 20, 20)
    records = [record(n, lesion) for n in range(9)]
    tables = data(records, [entry(n, lesion, 0.9 - n / 20) for n in range(9)])
    examples = choose_examples(tables, RULE, [0.0], limit=3)
    assert [e.image for e in examples.found] == [0, 4, 8]
    assert examples.counts == (9, 0, 0)


def test_no_detections_at_all():
    examples = choose_examples(data([record("a", (0, 0, 9, 9)), record("b")], []), RULE, [0.5])
    assert examples.counts == (0, 1, 0)
    assert [e.detection for e in examples.missed] == [-1]


def test_predictions_of_another_data_set_are_refused():
    with pytest.raises(ResultsError, match="entry 0: image_id 'z' or category_id 2"):
        data([record("a")], [entry("z", (0, 0, 1, 1), 0.5)])
    with pytest.raises(ResultsError, match="category_id 7"):
        data([record("a")], [entry("a", (0, 0, 1, 1), 0.5, category=7)])


def test_gallery_shows_pictures_and_names_unreadable_images(tmp_path):
    records = [record("a", (10, 10, 20, 20)), record("b", (10, 10, 20, 20))]
    records[0] |= {"file_name": str(tmp_path / "a.png"), "patient_id": "P7", "laterality": "L", "view": "CC"}
    cv2.imwrite(records[0]["file_name"], np.arange(10000, dtype=np.uint16).reshape(100, 100))
    tables = data(records, [entry("a", (10, 10, 20, 20), 0.75)])
    blocks = gallery_blocks(records, tables, choose_examples(tables, RULE, [0.5]), [0.5])
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert headings == ["Lesions found: 1", "Lesions missed: 1", "False positives of any score: 0"]
    galleries = [block for block in blocks if isinstance(block, Figures)]
    assert [figure.caption for figure in galleries[0].figures] == ["image a, patient P7, L CC, score 0.75"]
    assert not galleries[1].figures
    texts = [block.text for block in blocks if isinstance(block, Text)]
    assert any(text.startswith("Left out: none.png") for text in texts)
    assert texts[-1] == "None."
