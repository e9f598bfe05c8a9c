"""A job of two trainings: the second starts from the weights of the first.

FIRST_STAGE.OVERRIDES says in what the first training differs; everything else is that of the config. With
FIRST_STAGE.CONFIG the first training is that of another config, of another model and job if need be, for example of a
patch network whose backbone the second has. The first goes to OUTPUT_DIR/first_stage, a complete run by itself; the
second, whose model is the result, to OUTPUT_DIR. Both train on the same data sets, so in cross-validation each fold
starts from a model of its own training images.
"""

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mammo_d2.config.epochs import forget_iterations
from mammo_d2.config.loading import load_config
from mammo_d2.engine.evaluator_check import check_evaluators
from mammo_d2.engine.run_files.run_folder import forget_training
from mammo_d2.engine.run_files.run_record import claim_folders, fingerprint
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import CfgNode, comm, seed_all_rng
from mammo_d2.jobs.job import JOB_REGISTRY, JobOptions, SharedRun, Stage, build_job
from mammo_d2.jobs.single_stage import SingleStageJob

logger = logging.getLogger(__name__)

FIRST_STAGE_FOLDER = "first_stage"
# What the first training cannot have for itself: data sets, or a fold would start from a model of other patients.
_COMMON = (
    "OUTPUT_DIR", "FIRST_STAGE.", "DATASETS.TRAIN", "DATASETS.TEST", "DATASETS.ROOT", "DATASETS.REGISTER",
    "DATASETS.BOXES_",
)  # fmt: skip
# What it must have from the same config, or name a config of its own.
_COMMON_MODEL = ("JOB", "DATASETS.", "MODEL.META_ARCHITECTURE")
# What the iterations of an epoch follow from; with other values the first training has its own.
_DECIDE_ITERATIONS = ("SOLVER.", "DATALOADER.", "TEST.EVAL", "TEST.LOSS")
# What a first training of another config has from this one.
_DATA = (
    "DATASETS.ROOT", "DATASETS.REGISTER", "DATASETS.TRAIN", "DATASETS.BOXES_FOR", "DATASETS.BOXES_SEED",
    "DATASETS.ALLOW_SHARED_PATIENTS", "MODULES", "SEED",
)  # fmt: skip


class SecondStageTrainer(MammoTrainer):
    """MammoTrainer in the folder of the job."""

    def record_config(self) -> None:
        """Nothing: ``config.yaml`` there is that of the job, with the first training's initial weights."""


@JOB_REGISTRY.register()
class TwoStageJob(SingleStageJob):
    """Train with FIRST_STAGE.OVERRIDES, then as the config says from the result of that; see the module."""

    trainer_class = SecondStageTrainer
    can_share = True
    stage_keys = ("FIRST_STAGE.OVERRIDES",)

    def __init__(self, cfg: CfgNode):
        super().__init__(cfg)
        keys = cfg.FIRST_STAGE
        if not (keys.OVERRIDES or keys.CONFIG or keys.WEIGHTS):
            raise ValueError(
                "JOB is TwoStageJob, but FIRST_STAGE.OVERRIDES is empty and there is no FIRST_STAGE.CONFIG: name what "
                "the first training has other than the second, e.g. \"['MODEL.DEEP_MIL.HEAD', 'max']\", or its config; "
                "or set JOB SingleStageJob"
            )
        self._first = first_stage_config(cfg)

    def stages(self) -> list[Stage]:
        """Both trainings, or the second alone with FIRST_STAGE.WEIGHTS."""
        stages = [Stage("first stage", FIRST_STAGE_FOLDER, self._first), Stage("second stage", "", self.cfg)]
        return stages[1:] if self.cfg.FIRST_STAGE.WEIGHTS else stages

    def train(self, options: JobOptions) -> dict[str, Any] | None:
        """Both trainings; the evaluation is that of the last weights of the second.

        A first training that has finished is not repeated with ``resume``. With ``shared_only`` there is no second.

        Raises:
            RunConflictError: the first training to be resumed was started with another config or other data.
            FileNotFoundError: FIRST_STAGE.WEIGHTS do not exist.
        """
        given = self.cfg.FIRST_STAGE.WEIGHTS
        if given and not Path(given).is_file():
            raise FileNotFoundError(f"FIRST_STAGE.WEIGHTS {given} does not exist; without it the job makes them")
        check_evaluators(self.cfg)
        weights = Path(given) if given else self._train_first(options)
        if options.shared_only:
            return None
        second = self.cfg.clone()
        second.defrost()
        second.MODEL.WEIGHTS = str(weights)
        second.freeze()
        seed_all_rng(second.SEED + comm.get_rank())
        trainer = self.trainer_class(second, strict_weights=options.strict_weights)
        trainer.resume_or_load(resume=options.resume)
        return trainer.train()

    def _train_first(self, options: JobOptions) -> Path:
        """The first training; returns its result."""
        first, folder = build_job(self._first), Path(self._first.OUTPUT_DIR)
        claim_folders({folder: self._first}, "OUTPUT_DIR", options.resume, write=comm.is_main_process())
        if not options.resume and comm.is_main_process():
            forget_training(folder)
        comm.synchronize()
        if options.resume and first.is_finished(folder):
            logger.info("The first stage has finished: %s", folder)
        else:
            # As if it were a training by itself: the draws must not depend on what this process has done before.
            seed_all_rng(self._first.SEED + comm.get_rank())
            first.train(replace(options, shared_only=False))
        comm.synchronize()
        return first.start_weights(folder)

    @classmethod
    def shared_runs(cls, configs: Sequence[CfgNode], output: Path) -> list[SharedRun]:
        """One first training for all runs that have the same one, in ``output/first_<fingerprint>``."""
        users: dict[Path, list[int]] = {}
        for position, cfg in enumerate(configs):
            if not cfg.FIRST_STAGE.WEIGHTS:
                folder = output / f"first_{fingerprint(first_stage_config(cfg))}"
                users.setdefault(folder, []).append(position)
        return [
            SharedRun(folder, f"the first stage in {folder.name}", tuple(positions))
            for folder, positions in users.items()
        ]

    def overrides_of_shared(self, folder: Path) -> list[str]:
        """The weights of the first training."""
        if self.cfg.FIRST_STAGE.WEIGHTS:
            return []
        return ["FIRST_STAGE.WEIGHTS", str(build_job(self._first).start_weights(folder / FIRST_STAGE_FOLDER))]


def first_stage_config(cfg: CfgNode) -> CfgNode:
    """The config of the first training, a complete one.

    That of FIRST_STAGE.CONFIG has its training sets and seed from the job, and no test sets: the runs that start from
    it may be tested on any.

    Args:
        cfg: of the job.

    Raises:
        ValueError: overrides that are not pairs, or of keys that both trainings share.
        ConfigError: an unknown key, or a value of the wrong type.
    """
    words = [str(word) for word in cfg.FIRST_STAGE.OVERRIDES]
    common = _COMMON if cfg.FIRST_STAGE.CONFIG else _COMMON + _COMMON_MODEL
    taken = [key for key in words[::2] if key.startswith(common)]
    if taken:
        raise ValueError(f"FIRST_STAGE.OVERRIDES has {taken[0]}, which both trainings share; set it for the whole job")
    load_config("", [*_modules(cfg), *words])  # an unknown key or a bad value, with an explanation
    if cfg.FIRST_STAGE.CONFIG:
        first = load_config(cfg.FIRST_STAGE.CONFIG, words)
        first.defrost()
        for key in _DATA:
            _set(first, key, _get(cfg, key))
        first.DATASETS.TEST = ()
    else:
        first = cfg.clone()
        first.defrost()
        if any(key.startswith(_DECIDE_ITERATIONS) for key in words[::2]):
            forget_iterations(first)
        first.merge_from_list(words)
        first.JOB = "SingleStageJob"
        first.FIRST_STAGE.OVERRIDES, first.FIRST_STAGE.CONFIG, first.FIRST_STAGE.WEIGHTS = [], "", ""
    first.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / FIRST_STAGE_FOLDER)
    first.freeze()
    return first


def _modules(cfg: CfgNode) -> list[str]:
    return ["MODULES", str(list(cfg.MODULES))] if cfg.MODULES else []


def _get(cfg: CfgNode, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), cfg)


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    *nodes, name = key.split(".")
    setattr(functools.reduce(getattr, nodes, cfg), name, value)
