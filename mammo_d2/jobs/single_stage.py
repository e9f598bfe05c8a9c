"""The ordinary job: one training in OUTPUT_DIR, evaluated with its last weights."""

import logging
import os
from typing import Any

from mammo_d2.engine.evaluator_check import check_evaluators
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import CfgNode, SafeCheckpointer
from mammo_d2.jobs.job import JOB_REGISTRY, Job, JobOptions

logger = logging.getLogger(__name__)


@JOB_REGISTRY.register()
class SingleStageJob(Job):
    """Train MODEL.META_ARCHITECTURE ; evaluate MODEL.WEIGHTS or the last checkpoint.

    Attributes:
        trainer_class: what trains; a subclass may have another one.
    """

    trainer_class: type[MammoTrainer] = MammoTrainer

    def resolve_epochs(self, cfg: CfgNode) -> None:
        """See ``Job``."""
        self.trainer_class.resolve_epochs(cfg)

    def train(self, options: JobOptions) -> dict[str, Any] | None:
        """See ``Job``; the evaluation is that of the last weights."""
        trainer = self.trainer_class(self.cfg, strict_weights=options.strict_weights)
        if options.resume and not trainer.checkpointer.has_checkpoint():
            folder = os.path.abspath(self.cfg.OUTPUT_DIR)
            logger.warning("--resume, but there is no checkpoint in OUTPUT_DIR %s: the training begins anew", folder)
        trainer.resume_or_load(resume=options.resume)
        return trainer.train()

    def evaluate(self, options: JobOptions) -> dict[str, Any]:
        """Evaluate MODEL.WEIGHTS, or with ``resume`` the last checkpoint of OUTPUT_DIR if there is one.

        Raises:
            ValueError: nothing to evaluate (on); evaluators that the model is not for; weights that the model has and
                the file lacks, or has in another shape; with ``strict_weights`` also weights that the model lacks.
        """
        cfg, resume = self.cfg, options.resume
        if not cfg.DATASETS.TEST:
            raise ValueError("--eval-only needs a data set to evaluate on; set DATASETS.TEST")
        check_evaluators(cfg)
        model = self.trainer_class.build_model(cfg)
        checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR, strict_weights=options.strict_weights)
        if not cfg.MODEL.WEIGHTS and not (resume and checkpointer.has_checkpoint()):
            raise ValueError(
                "--eval-only without weights would evaluate an untrained model; set MODEL.WEIGHTS, or give --resume "
                "for the last checkpoint in OUTPUT_DIR"
            )
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
        report = checkpointer.load_report
        if report is not None and (report.missing or report.mis_shaped):
            untrained = [*report.missing, *(name for name, _, _ in report.mis_shaped)]
            raise ValueError(
                f"{report.path} leaves {len(untrained)} weights of the model untrained, e.g. {untrained[0]}; evaluate "
                "with the config of its training (config.yaml in its OUTPUT_DIR)"
            )
        return self.trainer_class.test(cfg, model)
