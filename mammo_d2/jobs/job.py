"""A job: what training a method means. The rooms above this one ask the job and do not know the method.

A job knows its trainings (stages), trains and evaluates them, and knows which weights are the result and where their
evaluation lies. It also says what several runs can share and what the report of a run shows. The config key JOB names
it. Your own job is a registered subclass::

    @JOB_REGISTRY.register()
    class TeacherStudentJob(Job):
        ...

Its methods take the folder of a run rather than OUTPUT_DIR of the config: the folder may have been moved.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammo_d2.config.epochs import num_evaluations
from mammo_d2.config.loading import load_config
from mammo_d2.core.processes.kept_memory import keep_freed_memory
from mammo_d2.engine.run_files.run_folder import (
    FINAL_WEIGHTS,
    LAST_CHECKPOINT,
    evaluation_metrics,
    is_finished,
    last_weights,
    result_weights,
)
from mammo_d2.engine.setup import setup
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import META_ARCH_REGISTRY, CfgNode, Registry
from mammo_d2.jobs.report_parts import ReportedEvaluation, ReportedTraining, ReportParts, default_keys

JOB_REGISTRY = Registry("JOB")
JOB_REGISTRY.__doc__ = """Jobs by name, the value of JOB. Called with the config; see ``Job``."""


@dataclass(frozen=True)
class Stage:
    """A training of a job.

    Attributes:
        name: in words, e.g. "patch network"; empty for the only one.
        folder: its folder below OUTPUT_DIR of the job; empty: that folder itself.
        cfg: its config.
    """

    name: str
    folder: str
    cfg: CfgNode

    @property
    def title(self) -> str:
        """Of its section in the report."""
        return f"Training of the {self.name}" if self.name else "Training"

    @property
    def evaluations(self) -> int:
        """Number of evaluations on the way, unless the training stops early."""
        return num_evaluations(self.cfg)


@dataclass(frozen=True)
class JobOptions:
    """How the training command was called.

    Attributes:
        resume: continue what is in OUTPUT_DIR.
        strict_weights: weights of MODEL.WEIGHTS that do not fit the model are an error.
        shared_only: make only what several runs can share, see ``Job.shared_runs``.
    """

    resume: bool = False
    strict_weights: bool = False
    shared_only: bool = False


@dataclass(frozen=True)
class ResultEvaluation:
    """How the result of a finished run is evaluated on a data set: the training command with ``--eval-only``.

    Attributes:
        folder: OUTPUT_DIR of the command.
        results: where it leaves ``inference/<data set>``.
        needs_weights: MODEL.WEIGHTS must name the result's weights; otherwise the job finds them itself.
        is_by_training: the training itself makes this evaluation.
    """

    folder: Path
    results: Path
    needs_weights: bool = True
    is_by_training: bool = False


@dataclass(frozen=True)
class SharedRun:
    """A run that makes what several runs share: the training command with ``--resume --shared-only``.

    Attributes:
        folder: its OUTPUT_DIR.
        title: what it makes, for messages.
        users: positions of the runs that share it, in the order given.
        overrides: KEY VALUE overrides, beside those of its first user.
    """

    folder: Path
    title: str
    users: tuple[int, ...]
    overrides: tuple[str, ...] = ()


class Job:
    """The base of all jobs: one training, in OUTPUT_DIR itself.

    Attributes:
        cfg: the config of the whole job.
        trainer_class: what trains the job's stages; None: it trains nothing.
        can_share: ``--shared-only`` makes something, see ``shared_runs``.
        stage_keys: config keys that hold KEY, VALUE overrides of a stage, which a search may have ranges for.
    """

    trainer_class: type[MammoTrainer] | None = None
    can_share = False
    stage_keys: Sequence[str] = ()

    def __init__(self, cfg: CfgNode):
        """
        Raises:
            ValueError: the config is not one for this job.
        """
        self.cfg = cfg

    # --- the training command -----------------------------------------------------------------------------------
    def check_unused(self) -> None:
        """Check that a training that starts anew overwrites no weights of another.

        Raises:
            ValueError: OUTPUT_DIR holds a checkpoint of one of the job's trainings; with the remedies.
        """
        for stage in self.stages():
            folder = Path(self.cfg.OUTPUT_DIR) / stage.folder
            for name in (LAST_CHECKPOINT, FINAL_WEIGHTS):
                if (folder / name).is_file():
                    raise ValueError(
                        f"OUTPUT_DIR {self.cfg.OUTPUT_DIR} holds a training already ({folder / name}): give --resume "
                        "to go on with it, or name another OUTPUT_DIR"
                    )

    def resolve_epochs(self, cfg: CfgNode) -> None:
        """Set the iterations that follow from SOLVER.EPOCHS in the config of the whole job, in place.

        Called in ``setup``, before the config is stored. For jobs whose stages resolve their own configs: nothing.
        """

    def train(self, options: JobOptions) -> dict[str, Any] | None:
        """Train, and evaluate the result; called in every process, after ``setup``.

        Returns:
            The results, {task: {key: number}}; None where nothing was evaluated.
        """
        raise NotImplementedError

    def evaluate(self, options: JobOptions) -> dict[str, Any]:
        """Evaluate what was trained on DATASETS.TEST; called in every process, after ``setup``."""
        raise NotImplementedError

    # --- what a run consists of and leaves ----------------------------------------------------------------------
    def stages(self) -> list[Stage]:
        """The trainings, in order; the model of the last one is the result."""
        return [Stage("", "", self.cfg)]

    def is_finished(self, folder: Path) -> bool:
        """Whether all trainings of a run have come to their end."""
        return is_finished(folder / self.stages()[-1].folder)

    def weights(self, folder: Path) -> Path:
        """The weights that are the result of a finished run.

        Raises:
            FileNotFoundError: it has not finished.
        """
        return result_weights(folder / self.stages()[-1].folder)

    def start_weights(self, folder: Path) -> Path:
        """What another training starts from, MODEL.WEIGHTS: the result of a finished run, or a part of it."""
        return self.weights(folder)

    def evaluation_folder(self, folder: Path) -> Path:
        """The folder with ``inference/<data set>`` of a run's final evaluation."""
        return folder / self.stages()[-1].folder

    def metrics_file(self, folder: Path) -> Path | None:
        """metrics.json of the evaluation of a finished run; None of another."""
        return evaluation_metrics(self.evaluation_folder(folder)) if self.is_finished(folder) else None

    def result_evaluation(self, folder: Path, output: Path, dataset: str) -> ResultEvaluation:
        """How the result of a finished run is evaluated on one data set.

        Args:
            folder: of the run.
            output: folder for it, where the job needs one.
            dataset: registered name.
        """
        return ResultEvaluation(output, output)

    def overrides_of_test(self, dataset: str) -> list[str]:
        """KEY VALUE overrides with which the training evaluates its result on one data set, where it can do that apart
        from DATASETS.TEST; none of other jobs.

        Args:
            dataset: registered name.
        """
        return []

    # --- what several runs share --------------------------------------------------------------------------------
    def shared_folders(self, folder: Path) -> list[str]:
        """KEY VALUE overrides that let several runs store in ``folder`` what all of them may use."""
        return []

    @classmethod
    def shared_runs(cls, configs: Sequence[CfgNode], output: Path) -> list[SharedRun]:
        """Runs whose results several of the given runs need, to be made first.

        Args:
            configs: of the given runs, all of this job.
            output: folder for the folders of the shared runs.
        """
        return []

    def overrides_of_shared(self, folder: Path) -> list[str]:
        """KEY VALUE overrides that let a run use the results of the shared run in ``folder``."""
        return []

    # --- what other commands ask --------------------------------------------------------------------------------
    def check_folds(self) -> None:
        """Check that the job can be cross-validated: the same config on other data sets.

        Raises:
            ValueError: it cannot; with what to do instead.
        """

    def check_files(self) -> None:
        """Check that the model predicts on image files without further input.

        Raises:
            ValueError: it does not; with the command to use instead.
        """

    def report_parts(self, folder: Path) -> ReportParts:
        """What the report of the run in a folder shows."""
        cfg, last = self.cfg, folder / self.stages()[-1].folder
        weights = str(last_weights(last)) if self.is_finished(folder) else cfg.MODEL.WEIGHTS
        return ReportParts(
            uses={"train": cfg.DATASETS.TRAIN, "test": cfg.DATASETS.TEST},
            trainings=[ReportedTraining(stage.title, folder / stage.folder, stage.cfg) for stage in self.stages()],
            evaluations=[ReportedEvaluation("", self.evaluation_folder(folder))],
            evaluate_again=["MODEL.WEIGHTS", weights],
            keys=default_keys(cfg),
        )


def build_job(cfg: CfgNode) -> Job:
    """The job that JOB names.

    Raises:
        ValueError: no such job, or one that does not train MODEL.META_ARCHITECTURE.
    """
    if cfg.JOB not in JOB_REGISTRY:
        known = ", ".join(sorted(name for name, _ in JOB_REGISTRY))
        raise ValueError(f"JOB is {cfg.JOB!r}; the registered jobs are {known}")
    job, name = JOB_REGISTRY.get(cfg.JOB), cfg.MODEL.META_ARCHITECTURE
    # A model that cannot be trained on batches of images names its job.
    needed = getattr(META_ARCH_REGISTRY.get(name), "job", cfg.JOB) if name in META_ARCH_REGISTRY else cfg.JOB
    if not issubclass(job, JOB_REGISTRY.get(needed)):
        raise ValueError(
            f"JOB is {cfg.JOB}, but {name} (MODEL.META_ARCHITECTURE) is trained by {needed}: set JOB {needed}"
        )
    return job(cfg)


def main(args: argparse.Namespace) -> dict[str, Any] | None:
    """What every process of the training command runs.

    Args:
        args: of the framework's parser; ``strict_weights`` and ``shared_only`` as in ``JobOptions``, if there.

    Returns:
        The evaluation results, a dict of task name → {metric: value}; None where nothing was evaluated.

    Raises:
        ValueError, FileNotFoundError: bad config, data or weights; a training in OUTPUT_DIR without ``--resume``; with
            ``--eval-only`` also weights that leave a part of the model untrained.
    """
    keep_freed_memory()
    if not (args.resume or args.eval_only):  # before the set-up writes config.yaml
        build_job(load_config(args.config_file, args.opts)).check_unused()
    job = build_job(setup(args, complete=lambda cfg: build_job(cfg).resolve_epochs(cfg)))
    # The framework's own parser does not have the last two.
    flags = (getattr(args, name, False) for name in ("strict_weights", "shared_only"))
    options = JobOptions(args.resume, *flags)
    return job.evaluate(options) if args.eval_only else job.train(options)
