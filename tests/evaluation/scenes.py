"""Small data sets for the tests: written by hand or drawn at random."""

import numpy as np

from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData, images_from_records, lesions_from_records

SIDE = 10.0

# As make() takes them: two lesions in image 0, one in image 1, images 2 and 3 empty.
LESIONS = [(0, 0, 0), (0, 1, 0), (1, 0, 0)]
DETECTIONS = [
    (0, 0, 0.9),  # hit
    (0, 0, 0.6),  # second hit on the same lesion
    (0, 5, 0.8),  # false
    (1, 0, 0.5),  # hit
    (2, 0, 0.7),  # false, empty image
    (3, 0, 0.5),  # false, empty image, tied with the hit in image 1
    (3, 1, 0.2),  # false
]


def box(place):
    """A 10 x 10 box; boxes of different whole places do not touch."""
    return [place * 20.0, 0.0, place * 20.0 + SIDE, SIDE]


def make(lesions, detections, images=4, classes=("malignant",), per_patient=2):
    """lesions: (image, place, class[, more annotation keys]); detections: (image, place, score[, class])."""
    records = [
        {
            "image_id": i,
            "patient_id": i // per_patient,
            "laterality": "LR"[i % 2],
            "pixel_spacing": [0.1, 0.1],
            "height": 100,
            "width": 300,
            "annotations": [],
        }
        for i in range(images)
    ]
    for image, place, label, *more in lesions:
        annotation = {"bbox": box(place), "bbox_mode": 0, "category_id": label, **(more[0] if more else {})}
        records[image]["annotations"].append(annotation)
    table = DetectionTable(
        np.array([box(d[1]) for d in detections], float).reshape(-1, 4),
        np.array([d[2] for d in detections], float),
        np.array([d[0] for d in detections], np.int64),
        np.array([d[3] if len(d) > 3 else 0 for d in detections], np.int64),
    )
    return EvaluationData(images_from_records(records, classes), lesions_from_records(records), table)


def random_boxes(rng, count, largest=40):
    """(count, 4) XYXY boxes with whole coordinates in a 60 x 60 image, crowded enough to overlap."""
    corner = rng.integers(0, 40, (count, 2)).astype(float)
    return np.hstack([corner, corner + rng.integers(4, largest, (count, 2))])


def random_records(rng, images, classes, crowd=False, largest=40):
    """Records of images with 0 to 3 lesions; about a third have none."""
    records = []
    for i in range(images):
        annotations = [
            {
                "bbox": bbox.tolist(),
                "bbox_mode": 0,
                "category_id": int(rng.integers(classes)),
                "iscrowd": int(crowd and rng.random() < 0.15),
                "ignore": int(crowd and rng.random() < 0.15),
            }
            for bbox in random_boxes(rng, int(rng.integers(0, 4)), largest)
        ]
        records.append({"image_id": i, "patient_id": i // 3, "pixel_spacing": [0.1, 0.1], "annotations": annotations})
    return records


def random_detections(rng, records, classes, per_image=6, levels=None):
    """Detections scattered and near lesions; scores are distinct, or one of ``levels`` values (ties)."""
    boxes, image, label = [], [], []
    for row, record in enumerate(records):
        near = [np.asarray(a["bbox"]) + rng.integers(-3, 4, 4) for a in record["annotations"] if rng.random() < 0.8]
        near = [np.concatenate([b[:2], np.maximum(b[2:], b[:2] + 1)]) for b in near]
        some = [*near, *random_boxes(rng, int(rng.integers(0, per_image)))]
        boxes += some
        image += [row] * len(some)
        label += rng.integers(0, classes, len(some)).tolist()
    scores = (rng.permutation(len(image)) + 1) / (len(image) + 1)
    if levels:
        scores = np.ceil(scores * levels) / levels
    return DetectionTable(
        np.array(boxes, float).reshape(-1, 4), scores, np.array(image, np.int64), np.array(label, np.int64)
    )


def random_data(seed, images=12, classes=2, crowd=False, levels=None, largest=40):
    """A random data set; the class names are "c0", "c1", …"""
    rng = np.random.default_rng(seed)
    records = random_records(rng, images, classes, crowd, largest)
    names = tuple(f"c{k}" for k in range(classes))
    detections = random_detections(rng, records, classes, levels=levels)
    return EvaluationData(images_from_records(records, names), lesions_from_records(records), detections)


def copied(data, image_copies):
    """The data set in which image ``i`` occurs ``image_copies[i]`` times."""
    rows = np.repeat(np.arange(len(data.images)), image_copies)
    images = data.images
    take = {name: getattr(images, name)[rows] for name in ("patient", "exam", "breast", "truth", "size", "spacing")}
    table = type(images)(
        ids=tuple(range(len(rows))), classes=images.classes, patient_known=images.patient_known[rows], **take
    )
    lesions = [data.lesions.take(data.lesions.image == row) for row in rows]
    found = [data.detections.take(data.detections.image == row) for row in rows]

    def join(parts, kind):
        names = list(kind.__dataclass_fields__)
        columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
        columns["image"] = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        return kind(**columns)

    if not len(rows):
        none = np.zeros(0, np.int64)
        return EvaluationData(table, data.lesions.take(none), data.detections.take(none))
    return EvaluationData(table, join(lesions, type(data.lesions)), join(found, DetectionTable))
