"""A small viewer: three images of one exam and one of another patient, truth of two classes, two systems."""

import cv2
import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.evaluation.metrics.tables import DetectionTable
from mammo_d2.report.html import Section, write_report
from mammo_d2.report.viewer.viewed_data import SystemOutput, ViewedDataset
from mammo_d2.report.viewer.viewer_block import Viewer

CLASSES = ("benign", "malignant")
HEIGHT, WIDTH = 80, 60


def lesion(box, label, **more):
    return {"bbox": list(box), "bbox_mode": 1, "category_id": label, **more}


def make_records(folder):
    """Images a, b, c (L CC, R CC, L MLO of patient P1) and d (patient P2)."""
    rows = [
        ("a", "P1", "L", "CC", [lesion((10, 20, 20, 20), 1)], None),
        ("b", "P1", "R", "CC", [], {"benign": 0, "malignant": 0}),
        ("c", "P1", "L", "MLO", [lesion((5, 5, 10, 10), 0), lesion((30, 50, 10, 20), 1, iscrowd=1)], None),
        ("d", "P2", "L", "CC", [], {"benign": None, "malignant": 1}),
    ]
    records = []
    for number, (name, patient, side, view, annotations, labels) in enumerate(rows):
        path = folder / f"{name}.png"
        pixels = np.zeros((HEIGHT, WIDTH), np.uint16)
        pixels[:, slice(0, 40) if side == "L" else slice(20, 60)] = 1000 + 100 * number
        pixels[10:30, 25:35] += np.uint16(2000)
        cv2.imwrite(str(path), pixels)
        records.append(
            {"image_id": name, "file_name": str(path), "height": HEIGHT, "width": WIDTH, "patient_id": patient,
             "exam_id": "E", "laterality": side, "view": view, "annotations": annotations, "density": "c",
             "breast_box": [0, 0, 40, 80] if side == "L" else [20, 0, 40, 80],
             **({} if labels is None else {"labels": labels})}
        )  # fmt: skip
    return records


def table(*rows):
    """(image, box XYXY, score, class) each."""
    images, boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), (), ())
    return DetectionTable(
        np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(images, np.int64),
        np.array(labels, np.int64),
    )  # fmt: skip


def make_dataset(folder, rule=None, **more):
    first = table(
        (0, (10, 20, 30, 40), 0.9, 1),  # hits the malignant lesion of a
        (0, (11, 20, 31, 40), 0.5, 1),  # again
        (1, (0, 0, 20, 20), 0.8, 1),  # false, on a negative image
        (2, (5, 5, 15, 15), 0.4, 0),  # hits the benign lesion of c
        (2, (31, 51, 39, 69), 0.7, 1),  # in the crowd region: neither
        (3, (0, 0, 20, 20), 0.6, 1),  # on a positive image without box
    )
    second = table((0, (40, 40, 50, 60), 0.05, 1), (1, (0, 0, 9, 9), 0.02, 1))
    scores = np.array([[0.1, 0.9], [0.2, 0.3], [0.6, np.nan], [0.1, 0.2]])
    systems = [SystemOutput("first", first, scores), SystemOutput("second", second)]
    return ViewedDataset("toy_test", make_records(folder), CLASSES, systems, rule or FrocRule(), **more)


def write_page(folder, *datasets, **options):
    """A page with the viewer alone."""
    viewer = Viewer(datasets, **options)
    return write_report(folder / "page.html", "Test", [Section("Images", [viewer.block])], program=viewer.program)
