"""A COCO file of the package's format without any problem, and changes of it."""

import copy

GOOD = {
    "images": [
        {"id": 1, "file_name": "a.png", "height": 100, "width": 80, "patient_id": "p1", "laterality": "L", "view": "CC",
         "labels": {"benign": 0, "malignant": 1}, "pixel_spacing": [0.1, 0.1], "breast_box": [0, 0, 60, 100],
         "transform": {"source_size": [200, 160], "crop": [0, 0, 160, 200], "flip": False, "scale": [0.5, 0.5]},
         "source": {"file": "a.dcm", "sha256": "00"}},
        {"id": 2, "file_name": "b.png", "height": 100, "width": 80, "patient_id": "p2", "labels": {"malignant": None}},
    ],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
}  # fmt: skip


def changed(path, value):
    """GOOD with the entry at ``path`` set to ``value`` (``...`` deletes it)."""
    data = copy.deepcopy(GOOD)
    *parents, last = path
    target = data
    for step in parents:
        target = target[step]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return data


#: Paths of an image and an annotation in it.
IMAGE, BOX = ["images", 0], ["annotations", 0]
