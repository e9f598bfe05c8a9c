"""What each process does in the test of evaluators on two ranks; writes FOLDER/rankN.json where there are results."""

from pathlib import Path

import numpy as np
import torch

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.core.files import write_json
from mammo_d2.evaluation.evaluators.registered import build_evaluators
from mammo_d2.framework import Boxes, DatasetCatalog, Instances, MetadataCatalog, comm, get_cfg
from tests.evaluation.scenes import random_detections, random_records

NAME = "rank_job_toy"


def main(folder: str) -> None:
    """Evaluate random results, each rank its part; the middle image is given to every rank."""
    rng = np.random.default_rng(0)
    records = [{**r, "height": 60, "width": 60, "file_name": ""} for r in random_records(rng, 11, 1)]
    found = random_detections(rng, records, 1)
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(thing_classes=["malignant"])
    cfg = get_cfg()
    add_mammo_config(cfg)
    evaluators = build_evaluators(cfg, NAME, folder if comm.is_main_process() else None)
    evaluators.reset()
    for row, record in enumerate(records):
        if row % comm.get_world_size() == comm.get_rank() or row == 5:
            mine = found.take(found.image == row)
            instances = Instances((60, 60))
            instances.pred_boxes = Boxes(torch.tensor(mine.boxes, dtype=torch.float32))
            instances.scores = torch.tensor(mine.scores, dtype=torch.float32)
            instances.pred_classes = torch.tensor(mine.label)
            evaluators.process([{"image_id": record["image_id"]}], [{"instances": instances}])
    results = evaluators.evaluate()
    if results:
        write_json(Path(folder) / f"rank{comm.get_rank()}.json", results, nan_as_null=True)
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)
