import numpy as np
from pycocotools import mask as coco_mask

from mammo_d2.phantom.streams import class_counts
from mammo_d2.phantom.truth import collect_truth, view_record


def truth_of(config, patients):
    views = [view for views in patients for view in views]
    records = [view_record(v, f"{v.patient_id}/{k}.dcm", "0" * 64) for k, v in enumerate(views)]
    return views, collect_truth(config, records)


def test_every_image_and_finding_is_recorded_with_ids_from_one(config, patients):
    views, truth = truth_of(config, patients)
    assert [image["id"] for image in truth["images"]] == list(range(1, 81))
    for key, attribute in (("annotations", "findings"), ("distractors", "distractors")):
        assert [item["id"] for item in truth[key]] == list(range(1, len(truth[key]) + 1))
        per_image = [sum(item["image_id"] == k for item in truth[key]) for k in range(1, 81)]
        assert per_image == [len(getattr(v, attribute)) for v in views]
    assert truth["categories"] == [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    assert truth["info"]["patients_per_class"] == class_counts(config)


def test_image_keys(config, patients):
    views, truth = truth_of(config, patients)
    for view, image in zip(views, truth["images"], strict=True):
        assert (image["height"], image["width"]) == (320, 256)
        assert image["labels"] == view.labels
        assert image["pixel_spacing"] == [0.75, 0.75]
        assert image["birads"] == (5 if view.labels["malignant"] else 2 if view.labels["benign"] else 1)
        x, y, width, height = image["breast_box"]
        assert view.breast_mask[y : y + height, x : x + width].sum() == view.breast_mask.sum()


def test_masks_and_boxes_agree(config, patients):
    _, truth = truth_of(config, patients)
    for item in truth["annotations"] + truth["distractors"]:
        mask = coco_mask.decode(item["segmentation"])
        assert mask.sum() == item["area"]
        np.testing.assert_array_equal(coco_mask.toBbox(item["segmentation"]), item["bbox"])


def test_healthy_patients_have_no_annotation_and_category_is_the_pathology(config, patients):
    _, truth = truth_of(config, patients)
    images = {image["id"]: image for image in truth["images"]}
    names = {c["id"]: c["name"] for c in truth["categories"]}
    for item in truth["annotations"]:
        image = images[item["image_id"]]
        assert image["patient_class"] != "healthy"
        assert names[item["category_id"]] == item["pathology"]
        assert image["labels"][item["pathology"]] == 1
        assert item["lesion_id"].startswith(image["patient_id"])


def test_passes_the_packages_own_check(config, patients):
    from mammo_d2.data.format.annotations import validate_coco

    _, truth = truth_of(config, patients)
    report = validate_coco(truth)
    assert not report.errors
    assert not report.warnings
