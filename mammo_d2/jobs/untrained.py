"""The job of models that are not trained: an evaluation."""

from pathlib import Path
from typing import Any

from mammo_d2.engine.evaluator_check import check_evaluators
from mammo_d2.engine.run_files.run_folder import evaluation_metrics
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.jobs.job import JOB_REGISTRY, Job, JobOptions, ResultEvaluation, Stage
from mammo_d2.jobs.report_parts import ReportedEvaluation, ReportParts, default_keys


@JOB_REGISTRY.register()
class UntrainedJob(Job):
    """Evaluate MODEL.META_ARCHITECTURE, which has no weights, on DATASETS.TEST."""

    def check_unused(self) -> None:
        """Nothing is overwritten."""

    def train(self, options: JobOptions) -> dict[str, Any] | None:
        """The evaluation."""
        return self.evaluate(options)

    def evaluate(self, options: JobOptions) -> dict[str, Any]:
        """Evaluate the model as it is.

        Raises:
            ValueError: nothing to evaluate on.
        """
        if not self.cfg.DATASETS.TEST:
            raise ValueError(f"{self.cfg.MODEL.META_ARCHITECTURE} is not trained but evaluated; set DATASETS.TEST")
        check_evaluators(self.cfg)
        return MammoTrainer.test(self.cfg, MammoTrainer.build_model(self.cfg))

    def stages(self) -> list[Stage]:
        """None."""
        return []

    def is_finished(self, folder: Path) -> bool:
        """There is nothing to train."""
        return True

    def weights(self, folder: Path) -> Path:
        """There are none.

        Raises:
            FileNotFoundError: always.
        """
        raise FileNotFoundError(f"{self.cfg.MODEL.META_ARCHITECTURE} has no weights to start from")

    def evaluation_folder(self, folder: Path) -> Path:
        """The run's folder itself."""
        return folder

    def metrics_file(self, folder: Path) -> Path | None:
        """metrics.json, once there is one."""
        return evaluation_metrics(folder)

    def report_parts(self, folder: Path) -> ReportParts:
        """The evaluation alone."""
        uses, keys = {"test": self.cfg.DATASETS.TEST}, default_keys(self.cfg)
        return ReportParts(uses, [], [ReportedEvaluation("", folder)], keys=keys)

    def result_evaluation(self, folder: Path, output: Path, dataset: str) -> ResultEvaluation:
        """Without weights."""
        return ResultEvaluation(output, output, needs_weights=False)
