"""A data set of six images, model outputs for it by hand, and an evaluator run over them."""

import torch

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.framework import Boxes, Instances, get_cfg

SIZE = (100, 60)
HIT, MISS = [10.0, 10.0, 30.0, 30.0], [40.0, 50.0, 55.0, 70.0]


def annotation(category, **more):
    return {"bbox": [10.0, 10.0, 20.0, 20.0], "bbox_mode": 1, "category_id": category, "iscrowd": 0, **more}


def record(image_id, patient, side, annotations=(), **more):
    return {
        "image_id": image_id,
        "file_name": f"{image_id}.png",
        "height": SIZE[0],
        "width": SIZE[1],
        "patient_id": patient,
        "laterality": side,
        "annotations": list(annotations),
        **more,
    }


RECORDS = [
    record(1, "a", "L", [annotation(0, pathology="MALIGNANT", lesion_id="x")]),
    record(2, "a", "R"),
    record(3, "b", "L"),
    record(4, "b", "R"),
    record(5, "c", "L", labels={"malignant": None}),
    record(6, "d", "L", [annotation(0, pathology="benign_without_callback", lesion_id="x")]),
]

NAME = "evaluators_toy"
TOY = EvaluatedDataset(NAME, RECORDS, ("malignant",), (2,))


def output(*boxes, **more):
    """boxes: (XYXY, score)."""
    instances = Instances(SIZE)
    instances.pred_boxes = Boxes(torch.tensor([b for b, _ in boxes], dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor([s for _, s in boxes], dtype=torch.float32)
    instances.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
    return {"instances": instances, **more}


OUTPUTS = [
    output((HIT, 0.75), (MISS, 0.25)),
    output(),
    output((MISS, 0.5)),
    output((MISS, 0.625)),
    output((MISS, 0.875)),
    output((HIT, 0.125)),
]


def inputs(records=RECORDS):
    return [{"image_id": r["image_id"]} for r in records]


def run(evaluator, outputs=OUTPUTS, records=RECORDS):
    evaluator.reset()
    evaluator.process(inputs(records), outputs)
    return evaluator.evaluate()


def config(names=("coco", "froc", "patient")):
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.TEST.EVALUATORS = list(names)
    return cfg
