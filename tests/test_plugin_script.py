"""The script of a detectron2 user: their data set, their trainer; ``import mammo_d2`` for components and keys."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.data.toy_dataset import write_dataset

# On the embedded engine the framework's names come from mammo_d2.framework; that is the only difference.
IMPORTS = {
    "detectron2": """
import mammo_d2
from detectron2.checkpoint import DetectionCheckpointer as Checkpointer
from detectron2.config import get_cfg
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
""",
    "embedded": """
import mammo_d2
from mammo_d2.framework import DefaultTrainer, build_model, get_cfg, register_coco_instances
from mammo_d2.framework import SafeCheckpointer as Checkpointer
""",
}

SCRIPT = """
import sys

root, output = sys.argv[1:]


class Trainer(DefaultTrainer):
    seen = 0

    @classmethod
    def build_train_loader(cls, cfg):
        return mammo_d2.build_train_loader(cfg)

    def run_step(self):
        super().run_step()
        Trainer.seen += 1


register_coco_instances("mine_train", {}, f"{root}/toy/annotations/train.json", f"{root}/toy/images")
cfg = get_cfg()
mammo_d2.add_mammo_config(cfg)
cfg.merge_from_file(mammo_d2.find_config("mammo_d2://quickstart/phantom_top_likelihood.yaml"))
cfg.merge_from_list(
    ["DATASETS.TRAIN", ("mine_train",), "DATASETS.TEST", (), "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
    + ["MODEL.ROI_HEADS.NUM_CLASSES", 2, "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2, "OUTPUT_DIR", output]
    + ["INPUT.SIZE", [64, 64], "SOLVER.AMP.ENABLED", False, "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"]
)
trainer = Trainer(cfg)
trainer.resume_or_load(resume=False)
trainer.train()
model = build_model(cfg)
Checkpointer(model).load(f"{output}/model_final.pth")
same = all((a == b).all() for a, b in zip(model.state_dict().values(), trainer.model.state_dict().values()))
print("RESULT", Trainer.seen, type(model.proposal_generator).__name__, type(model.roi_heads).__name__, same)
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["embedded", pytest.param("detectron2", marks=pytest.mark.detectron2)])
def test_it_trains_our_components_with_their_trainer(engine, tmp_path):
    write_dataset(tmp_path)
    script = tmp_path / "script.py"
    script.write_text(IMPORTS[engine] + SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MAMMO_D2_ENGINE": engine}
    command = [sys.executable, str(script), str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "RESULT 2 TopLikelihoodRPN SimilarityROIHeads True"
