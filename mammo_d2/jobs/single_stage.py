"""The body of tools/train_net.py: what every process runs."""

import argparse
import logging
import os

from mammo_d2.engine.evaluator_check import check_evaluators
from mammo_d2.engine.setup import setup
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import CfgNode, SafeCheckpointer

logger = logging.getLogger(__name__)


def main(args: argparse.Namespace):
    """Train, or evaluate with ``--eval-only``.

    Returns:
        The evaluation results, a dict of task name → {metric: value}.

    Raises:
        ValueError, FileNotFoundError: bad config, data or weights; with ``--eval-only`` also weights that leave a
            part of the model untrained.
    """
    cfg = setup(args)
    if args.eval_only:
        return evaluate(cfg, args.resume, args.strict_weights)
    trainer = MammoTrainer(cfg, strict_weights=args.strict_weights)
    if trainer.checkpointer.has_checkpoint() != args.resume:
        _warn_of_resuming(cfg, args.resume)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def evaluate(cfg: CfgNode, resume: bool = False, strict_weights: bool = False):
    """Evaluate MODEL.WEIGHTS, or with ``resume`` the last checkpoint of OUTPUT_DIR, on DATASETS.TEST.

    Args:
        cfg: the config, frozen, its data sets registered.
        resume: take the last checkpoint of OUTPUT_DIR if there is one.
        strict_weights: weights that the model does not have are an error, too.

    Raises:
        ValueError: nothing to evaluate (on); evaluators that the model is not for; weights that the model has and the
            file lacks, or has in another shape.
    """
    if not cfg.DATASETS.TEST:
        raise ValueError("--eval-only needs a data set to evaluate on; set DATASETS.TEST")
    check_evaluators(cfg)
    model = MammoTrainer.build_model(cfg)
    checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR, strict_weights=strict_weights)
    if not cfg.MODEL.WEIGHTS and not (resume and checkpointer.has_checkpoint()):
        raise ValueError(
            "--eval-only without weights would evaluate an untrained model; set MODEL.WEIGHTS, or give --resume for "
            "the last checkpoint in OUTPUT_DIR"
        )
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    report = checkpointer.load_report
    if report is not None and (report.missing or report.mis_shaped):
        raise ValueError(
            f"{report.path} leaves {len(report.missing) + len(report.mis_shaped)} weights of the model untrained, e.g. "
            f"{[*report.missing, *(name for name, _, _ in report.mis_shaped)][0]}; evaluate with the config of its "
            "training (config.yaml in its OUTPUT_DIR)"
        )
    return MammoTrainer.test(cfg, model)


def _warn_of_resuming(cfg: CfgNode, resume: bool) -> None:
    """A forgotten --resume, or one in a folder where there is nothing to go on with."""
    folder = os.path.abspath(cfg.OUTPUT_DIR)
    if resume:
        logger.warning("--resume, but there is no checkpoint in OUTPUT_DIR %s: the training begins anew", folder)
    else:
        logger.warning(
            "OUTPUT_DIR %s holds the checkpoints of a former run; they are overwritten. To go on with that run stop "
            "this one and give --resume; to keep both name another OUTPUT_DIR",
            folder,
        )
