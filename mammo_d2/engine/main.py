"""The body of tools/train_net.py: what every process runs."""

import argparse
import logging

from mammo_d2.engine.setup import setup
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import SafeCheckpointer

logger = logging.getLogger(__name__)


def main(args: argparse.Namespace):
    """Train, or evaluate with ``--eval-only``.

    Returns:
        The evaluation results, a dict of task name → {metric: value}.
    """
    cfg = setup(args)
    if args.eval_only:
        model = MammoTrainer.build_model(cfg)
        checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR, strict_weights=args.strict_weights)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return MammoTrainer.test(cfg, model)
    trainer = MammoTrainer(cfg, strict_weights=args.strict_weights)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()
