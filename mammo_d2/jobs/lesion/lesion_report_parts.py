"""What the report of the lesion classifier's job shows."""

from pathlib import Path

from mammo_d2.framework import CfgNode
from mammo_d2.jobs.lesion.lesion_stages import (
    BEST_FOLDER,
    CONTEXT_MODEL,
    CONTEXT_PREFIX,
    PATCH_FOLDER,
    PATCH_MODEL,
    with_own_settings,
)
from mammo_d2.jobs.report_parts import ReportedEvaluation, ReportedTraining, ReportParts

_KEYS = (
    ("MODEL.META_ARCHITECTURE", "meta-architecture"),
    ("MODEL.LESION.NETWORK", "patch network"),
    ("MODEL.LESION.NETWORK_WEIGHTS", "its initial weights"),
    ("MODEL.LESION.PATCH_WEIGHTS", "patch network of another job"),
    ("MODEL.LESION.MAPS", "maps of the aggregation network, last run"),
    ("MODEL.LESION.MAP_SIZE", "cells of a map (rows, columns)"),
    ("MODEL.LESION.CONTEXT_CONFIG", "context network"),
    ("MODEL.LESION.CONTEXT_WEIGHTS", "its weights"),
    ("MODEL.LESION.WINDOW_SIDES", "sides of a window, in pixels"),
    ("MODEL.LESION.PATCH_SIZE", "resized to"),
    ("MODEL.LESION.WINDOWS", "windows of a lesion"),
    ("MODEL.LESION.EPOCH", "malignant, benign, outside and negative patches of an epoch"),
    ("MODEL.LESION.STORED_EPOCHS", "epochs of stored lesion patches (0: all)"),
    ("MODEL.LESION.STORED_BACKGROUND_EPOCHS", "epochs of other stored patches"),
    ("MODEL.LESION.SALIENCY_PLACEMENT", "placement of the saliency"),
    ("DATASETS.LABEL_LEVEL", "level of labels"),
    ("INPUT.INTENSITY", "intensity"),
    ("SEED", "seed"),
)
_STAGE_KEYS = (
    ("SOLVER.OPTIMIZER", "optimizer"),
    ("SOLVER.BASE_LR", "base learning rate"),
    ("SOLVER.LR_SCHEDULER_NAME", "learning rate schedule"),
    ("SOLVER.WEIGHT_DECAY", "weight decay"),
    ("SOLVER.IMS_PER_BATCH", "patches per batch"),
    ("SOLVER.EPOCHS", "epochs (0: counted in iterations)"),
    ("SOLVER.MAX_ITER", "iterations"),
    ("TEST.EVAL_PERIOD", "iterations between evaluations"),
    ("TEST.EARLY_STOP_PATIENCE", "evaluations without a better one until the stop"),
)


def lesion_report_parts(cfg: CfgNode, folder: Path) -> ReportParts:
    """Both trainings, and an aggregation network for every combination of maps in the folder."""
    patch, context = (with_own_settings(cfg, model) for model in (PATCH_MODEL, CONTEXT_MODEL))
    given = cfg.MODEL.LESION.PATCH_WEIGHTS
    patch_folder = Path(given).parent if given else folder / PATCH_FOLDER
    trainings = [ReportedTraining("Training of the patch network", patch_folder, patch, given)]
    evaluations = []
    if (folder / PATCH_FOLDER / BEST_FOLDER).is_dir():
        evaluations.append(ReportedEvaluation("patch network alone", folder / PATCH_FOLDER / BEST_FOLDER))
    for path in sorted(folder.glob(f"{CONTEXT_PREFIX}*")):
        if path.is_dir():
            maps = path.name.removeprefix(CONTEXT_PREFIX).replace("_", " + ")
            trainings.append(ReportedTraining(f"Training of the aggregation network with {maps}", path, context))
            evaluations.append(ReportedEvaluation(maps, path / BEST_FOLDER))
    tests = tuple(cfg.MODEL.LESION.FINAL_TEST) or tuple(cfg.DATASETS.TEST)
    choosing = [name for name in cfg.DATASETS.TEST if name not in tests]
    return ReportParts(
        uses={"train": cfg.DATASETS.TRAIN, "choosing the weights": choosing, "test": tests},
        trainings=trainings,
        evaluations=evaluations,
        unevaluated="no aggregation network has been evaluated",
        unevaluated_hint="; mammo-d2 train --resume goes on with the job.",
        keys=_KEYS,
        stage_configs={"patch network": patch, "aggregation network": context},
        stage_keys=_STAGE_KEYS,
    )
