"""The page of a comparison: the same images, a column per method."""

import cv2
import numpy as np

from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.row_comparison import compare_rows
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic
from mammo_d2.evaluation.metrics.tables import DetectionTable
from mammo_d2.pictures.drawing import PREDICTION_COLOR, TRUTH_COLOR
from mammo_d2.report.html import Table
from mammo_d2.report.method_page import MethodColumn, method_panel, method_pictures, write_method_page


def record(folder, image_id, lesion=False):
    path = folder / f"{image_id}.png"
    cv2.imwrite(str(path), np.full((80, 60), 90, np.uint8))
    annotations = [{"bbox": [10, 10, 20, 20], "bbox_mode": 1, "category_id": 0}] if lesion else []
    return {"image_id": image_id, "file_name": str(path), "annotations": annotations, "patient_id": f"p{image_id}"}


def boxes(*rows):
    """(image, label, score) each."""
    image, label, score = (np.array(column) for column in zip(*rows, strict=True))
    return DetectionTable(np.tile([30.0, 40.0, 50.0, 60.0], (len(rows), 1)), score.astype(float), image, label)


def has(picture, color):
    return bool((picture == np.array(color)).all(axis=2).any())


def test_a_panel_has_truth_and_the_classes_boxes(tmp_path):
    found = record(tmp_path, 1, lesion=True)
    column = MethodColumn("m", ("benign", "malignant"), 1, boxes((0, 1, 0.75), (1, 1, 0.5), (0, 0, 0.9)))
    pixels = np.full((80, 60), 90.0)
    panel = method_panel(pixels, found, 0, column)
    assert has(panel, TRUTH_COLOR)
    assert has(panel, PREDICTION_COLOR)
    other = MethodColumn("m", ("benign", "malignant"), 1, boxes((1, 1, 0.5), (0, 0, 0.9)))
    assert not has(method_panel(pixels, found, 0, other), PREDICTION_COLOR)
    given = MethodColumn("m", ("malignant",), 0, lesions={1: [([10, 10, 20, 20], 0.3)]})
    assert has(method_panel(pixels, found, 0, given), PREDICTION_COLOR)


def test_a_map_colours_the_picture(tmp_path):
    found = record(tmp_path, 1)
    np.savez(tmp_path / "maps.npz", **{"1": np.stack([np.zeros((4, 3)), np.ones((4, 3))]).astype(np.float16)})
    pixels = np.tile(np.arange(60.0), (80, 1))

    def colours(label):
        panel = method_panel(pixels, found, 0, MethodColumn("m", ("a", "b"), label, maps=[tmp_path / "maps.npz"]))
        return int(np.ptp(panel[:50].astype(int), axis=2).max())

    assert colours(0) < 10
    assert colours(1) > 50


def test_pictures_of_both_kinds_and_notes_of_missing_ones(tmp_path):
    records = [record(tmp_path, n, lesion=n < 3) for n in range(6)]
    (tmp_path / "1.png").unlink()
    column = MethodColumn("m", ("malignant",), 0, image_scores=np.linspace(0, 1, 6))
    blocks = method_pictures(records, [column, column], np.array([1, 1, 1, 0, 0, np.nan]), 3)
    kinds = [type(block).__name__ for block in blocks]
    # The image of unknown truth is not shown.
    assert kinds == ["Heading", "Figure", "Note", "Figure", "Heading", "Figure", "Figure"]


def test_the_page(tmp_path):
    rows = {
        name: [{"t": MeanStatistic(np.array([values], float), ["m"], np.arange(3))}]
        for name, values in (("a", [0, 1, 1]), ("b <i>", [1, 1, 1]))
    }
    compared = compare_rows(rows, 3, BootstrapPlan(20))
    path = write_method_page(
        tmp_path / "page.html", "Title", compared, {"t/m": "M", "t/x": "unused"}, Table(["row", "s"], [["a", 1.5]]),
        {"class": "malignant"}, [record(tmp_path, 1)], [MethodColumn("a", ("malignant",), 0)], np.zeros(1),
    )  # fmt: skip
    text = path.read_text()
    assert "Values with 95 % intervals over 3 test patients" in text
    assert "Differences to a, paired" in text
    assert "b &lt;i&gt;" in text
    assert "unused" not in text
    assert text.count("<img") == 1
