"""The page of a comparison: its tables, and the same images with every method."""

import base64
import re

import cv2
import numpy as np

from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.evaluation.metrics.row_comparison import compare_rows
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic
from mammo_d2.evaluation.metrics.tables import DetectionTable
from mammo_d2.report.html import Table
from mammo_d2.report.method_page import MethodColumn, viewed_methods, write_method_page
from mammo_d2.report.viewer.embedded_images import image_blocks
from mammo_d2.report.viewer.viewed_data import viewer_data


def record(folder, image_id, lesion=False):
    path = folder / f"{image_id}.png"
    cv2.imwrite(str(path), np.full((80, 60), 90, np.uint8))
    annotations = [{"bbox": [10, 10, 20, 20], "bbox_mode": 1, "category_id": 0}] if lesion else []
    return {"image_id": image_id, "file_name": str(path), "annotations": annotations, "patient_id": f"p{image_id}",
            "height": 80, "width": 60}  # fmt: skip


def boxes(*rows):
    """(image, label, score) each."""
    image, label, score = (np.array(column) for column in zip(*rows, strict=True))
    return DetectionTable(np.tile([30.0, 40.0, 50.0, 60.0], (len(rows), 1)), score.astype(float), image, label)


def test_methods_are_shown_with_the_class_alone(tmp_path):
    records = [record(tmp_path, n, lesion=n == 1) for n in (1, 2)]
    records[0]["annotations"][0]["category_id"] = 1
    np.savez(tmp_path / "maps.npz", **{"1": np.stack([np.zeros((4, 3)), np.ones((4, 3))]).astype(np.float16)})
    column = MethodColumn(
        "m", ("benign", "malignant"), 1, boxes((0, 1, 0.75), (1, 1, 0.5), (0, 0, 0.9)), np.array([0.1, 0.2]),
        [tmp_path / "maps.npz"] * 2,
    )  # fmt: skip
    given = MethodColumn("given", ("malignant",), 0, lesions={1: [([10, 10, 20, 20], 0.3)]})
    data = viewer_data([viewed_methods(records, [column, given], "malignant", FrocRule(HitRule("iom", 0.1)))], 9)
    assert (data["classes"], data["datasets"]) == (["malignant"], ["test images"])
    first, second = data["images"]
    assert first["lesions"] == [[10, 10, 20, 20, 0, ""]]
    assert (first["results"][0]["scores"], first["results"][0]["labels"]) == ([0.75], [0])
    assert (first["results"][0]["image"], second["results"][0]["scores"]) == ([0.1], [0.5])
    assert first["results"][1]["given"] == [[10, 10, 20, 20, 0.3]]
    maps = {name: text for name, text in map(block_of, image_blocks([viewed_methods(
        records, [column, given], "malignant", FrocRule())], data)) if name.startswith("map")}  # fmt: skip
    assert list(maps) == ["map-0-0-0", "map-1-0-0"]
    assert cv2.imdecode(np.frombuffer(base64.b64decode(maps["map-0-0-0"]), np.uint8), 0).min() == 255


def block_of(block):
    return re.search(r'id="([^"]+)".*?>(.*)</script>', block).groups()


def test_the_page(tmp_path):
    rows = {
        name: [{"t": MeanStatistic(np.array([values], float), ["m"], np.arange(3))}]
        for name, values in (("a", [0, 1, 1]), ("b <i>", [1, 1, 1]))
    }
    compared = compare_rows(rows, 3, BootstrapPlan(20))
    path = write_method_page(
        tmp_path / "page.html", "Title", compared, {"t/m": "M", "t/x": "no metric"}, Table(["row", "s"], [["a", 1.5]]),
        {"class": "malignant"}, [record(tmp_path, 1)], [MethodColumn("a", ("malignant",), 0, boxes((0, 0, 0.5)))],
        "malignant",
    )  # fmt: skip
    text = path.read_text()
    assert "Values with 95 % intervals over 3 test patients" in text
    assert "Differences to a, paired" in text
    assert "b &lt;i&gt;" in text
    assert "no metric" not in text
    assert 'id="px-0" data-type="image/jpeg">/9j/' in text
    path = write_method_page(tmp_path / "p.html", "T", compared, {"t/m": "M"}, Table(["r"], [["a"]]), {}, [], [])
    assert "viewer" not in path.read_text()
