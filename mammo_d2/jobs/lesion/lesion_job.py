"""The lesion classifier's training as one job of stages: context → f_loc → embeddings → f_agg.

* context: the frozen GMIC of MODEL.LESION.CONTEXT_WEIGHTS gives the saliency of every image, kept in a folder
  (``context_saliency.py``);
* f_loc: ``LesionPatchClassifier`` in OUTPUT_DIR/patch;
* embeddings: the best f_loc turns the patches of MODEL.LESION.STORED_EPOCHS epochs into embeddings, kept in parts
  (``embeddings.py``);
* f_agg: ``LesionContextClassifier`` in OUTPUT_DIR/context_<maps>; its best weights are evaluated in .../best.

Every stage leaves whole files only and does what is missing, so that an interrupted job goes on where it was. With
another config or other data than it was begun with that is an error. Where a stage's files lie, and its config, is in
``lesion_stages.py``.
"""

import argparse
import logging
import shutil
from pathlib import Path
from typing import Any

from mammo_d2.data.format.catalog import load_records
from mammo_d2.engine.evaluator_check import check_evaluators
from mammo_d2.engine.run_folder import config_of_weights, forget_training, is_finished, result_weights
from mammo_d2.engine.run_record import claim_folders
from mammo_d2.engine.setup import check_patients_apart, setup
from mammo_d2.framework import CfgNode, comm, seed_all_rng
from mammo_d2.jobs.lesion.context_saliency import make_saliency
from mammo_d2.jobs.lesion.embeddings import make_embeddings
from mammo_d2.jobs.lesion.lesion_stages import (
    BEST_FOLDER,
    CONTEXT_MODEL,
    PATCH_MODEL,
    load_classifier,
    stage_config,
    with_own_settings,
    without_aggregation,
)
from mammo_d2.jobs.lesion.lesion_trainer import LesionTrainer

logger = logging.getLogger(__name__)


def main(args: argparse.Namespace) -> dict[str, Any] | None:
    """The body of tools/train_lesion.py: all stages, then the evaluation of the best f_agg; see ``claim_stages``.

    That is on MODEL.LESION.FINAL_TEST, or on DATASETS.TEST where there is none and with ``eval_only``.

    Args:
        args: of ``default_argument_parser``; ``eval_only`` leaves out the training, ``shared_only`` all that depends
            on the combination of maps.
    """
    cfg = setup(args)
    for model in (PATCH_MODEL, CONTEXT_MODEL):
        check_evaluators(with_own_settings(cfg, model))
    final = cfg.clone()
    if cfg.MODEL.LESION.FINAL_TEST and not args.eval_only:
        final.defrost()
        final.DATASETS.TEST = tuple(cfg.MODEL.LESION.FINAL_TEST)
    if not cfg.DATASETS.ALLOW_SHARED_PATIENTS:
        check_lesions_unseen(cfg, final)
    shared_only = getattr(args, "shared_only", False)
    if not args.eval_only:
        claim_stages(cfg, shared_only, args.resume)
    if "saliency" in cfg.MODEL.LESION.MAPS:
        records = [] if args.eval_only else load_records(cfg, list(cfg.DATASETS.TRAIN))
        tests = load_records(cfg, list(dict.fromkeys([*cfg.DATASETS.TEST, *final.DATASETS.TEST])))
        make_saliency(cfg, records + [record for record in tests if record["annotations"]])
    if not args.eval_only:
        if not cfg.MODEL.LESION.PATCH_WEIGHTS:
            train_stage(stage_config(cfg, PATCH_MODEL), args.resume)
        comm.synchronize()
        stage = stage_config(cfg, CONTEXT_MODEL)
        make_embeddings(stage)
        if shared_only:
            return None
        train_stage(stage, args.resume)
        comm.synchronize()
    stage = stage_config(final, CONTEXT_MODEL)
    return evaluate_best(stage)


def claim_stages(cfg: CfgNode, shared_only: bool, resume: bool) -> None:
    """Make the stages' folders those of a job, before the first one is trained.

    Args:
        cfg: of the job.
        shared_only: without f_agg.
        resume: go on with what is there; otherwise it is trained anew.

    Raises:
        RunConflictError: a stage to go on with was begun with another config or other data.
    """
    claims = {}
    if not cfg.MODEL.LESION.PATCH_WEIGHTS:
        claims[Path(with_own_settings(cfg, PATCH_MODEL).OUTPUT_DIR)] = without_aggregation(cfg)
    if not shared_only:
        final = cfg.clone()
        final.defrost()
        final.MODEL.LESION.FINAL_TEST = []  # evaluated anew every time
        claims[Path(with_own_settings(cfg, CONTEXT_MODEL).OUTPUT_DIR)] = final
    claim_folders(claims, "OUTPUT_DIR", resume, write=comm.is_main_process())
    if not resume and comm.is_main_process():
        # Once interrupted and resumed, an earlier run's weights would be taken for those of a stage not yet begun.
        for folder in claims:
            forget_training(folder)
            shutil.rmtree(folder / BEST_FOLDER, ignore_errors=True)
    comm.synchronize()


def train_stage(cfg: CfgNode, resume: bool) -> None:
    """Train a stage's model; with ``resume`` go on, or do nothing if it has finished."""
    if resume and is_finished(cfg.OUTPUT_DIR):
        logger.info("%s has finished: %s", cfg.MODEL.META_ARCHITECTURE, cfg.OUTPUT_DIR)
        return
    # The initial weights must not depend on which stages have run in this process before.
    seed_all_rng(cfg.SEED + comm.get_rank())
    trainer = LesionTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def evaluate_best(stage: CfgNode) -> dict[str, Any]:
    """Evaluate the best weights of a context stage, in a folder of their own: ``best`` in its OUTPUT_DIR.

    What the training writes about its last weights is thereby never taken for it.
    """
    cfg = stage.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(Path(stage.OUTPUT_DIR) / BEST_FOLDER)
    cfg.freeze()
    return LesionTrainer.test(cfg, load_classifier(stage, result_weights(stage.OUTPUT_DIR)))


def check_lesions_unseen(cfg: CfgNode, final: CfgNode) -> None:
    """Look for patients of the evaluation in what weights were chosen by, and in what given networks were trained on.

    The latter is known where a context or patch network's ``config.yaml`` lies beside its weights or one folder above.

    Args:
        cfg: of the job; its training and test sets have been compared.
        final: the same with the data sets of the final evaluation in DATASETS.TEST.

    Raises:
        ValueError: there are such patients.
    """
    seen = [(cfg.DATASETS.TRAIN, final.DATASETS.TEST), (cfg.DATASETS.TEST, final.DATASETS.TEST)]
    for weights in (cfg.MODEL.LESION.CONTEXT_WEIGHTS, cfg.MODEL.LESION.PATCH_WEIGHTS):
        path = config_of_weights(weights) if weights else None
        if path is not None:
            trained = CfgNode.load_yaml_with_base(str(path), allow_unsafe=False).get("DATASETS", {}).get("TRAIN", ())
            seen.append((trained, (*cfg.DATASETS.TEST, *final.DATASETS.TEST)))
    for train, test in seen:
        pair = cfg.clone()
        pair.defrost()
        pair.DATASETS.TRAIN, pair.DATASETS.TEST = tuple(train), tuple(test)
        check_patients_apart(pair)
