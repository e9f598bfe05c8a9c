"""Four images with the regions that a detector gives of them, in falling order of the scores."""


def annotation(category, x, **more):
    return {"bbox": [x, 0.0, 10.0, 10.0], "bbox_mode": 1, "category_id": category, "iscrowd": 0, **more}


def records():
    def one(number, *annotations):
        more = {"height": 100, "width": 200, "patient_id": number, "file_name": f"{number}.png"}
        return {"image_id": number, "annotations": list(annotations), **more}

    return [
        one(1, annotation(1, 40.0)),
        one(2, annotation(0, 0.0), annotation(1, 100.0)),
        one(3),
        one(4, annotation(1, 0.0, iscrowd=1), annotation(0, 0.0, ignore=1)),
    ]


# (image row, class, left side, score); every box is 20 x 20, so that IoM is the part of the lesion inside it.
REGIONS = [
    (0, 1, 0.0, 0.9),
    (0, 1, 35.0, 0.5),  # contains the lesion at 40
    (0, 1, 30.0, 0.4),  # contains it too, but comes later
    (0, 0, 40.0, 0.95),  # another class
    (1, 0, 0.0, 0.1),
    (1, 1, 50.0, 0.3),
    (2, 1, 0.0, 0.8),
    (3, 1, 0.0, 0.8),
]
