"""The lesion classifier's job: context → f_loc → embeddings → f_agg.

* context: the frozen GMIC of MODEL.LESION.CONTEXT_WEIGHTS gives the saliency of every image, stored in a folder
  (``context_saliency.py``);
* f_loc: ``LesionPatchClassifier`` in OUTPUT_DIR/patch; its best weights are evaluated in .../best;
* embeddings: the best f_loc turns the patches of MODEL.LESION.STORED_EPOCHS epochs into embeddings, stored in parts
  (``embeddings.py``);
* f_agg: ``LesionContextClassifier`` in OUTPUT_DIR/context_<maps>; its best weights are evaluated in .../best.

With no MODEL.LESION.MAPS the job is f_loc alone: its score of a lesion is the mean over the lesion's windows, as
f_agg's is.

A stage writes complete files and does only what is missing, so an interrupted job can be resumed. Resuming with another
config or other data is an error. The stages' folders and configs are in ``lesion_stages.py``.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mammo_d2.config.named_configs import read_config
from mammo_d2.data.format.catalog import load_records
from mammo_d2.engine.evaluator_check import check_evaluators
from mammo_d2.engine.run_files.run_folder import (
    config_of_weights,
    evaluation_metrics,
    forget_training,
    is_finished,
    result_weights,
)
from mammo_d2.engine.run_files.run_record import claim_folders
from mammo_d2.engine.setup import check_patients_apart
from mammo_d2.framework import CfgNode, comm, seed_all_rng
from mammo_d2.jobs.job import JOB_REGISTRY, Job, JobOptions, ResultEvaluation, SharedRun, Stage
from mammo_d2.jobs.lesion.context_saliency import make_saliency
from mammo_d2.jobs.lesion.embeddings import make_embeddings
from mammo_d2.jobs.lesion.lesion_report_parts import lesion_report_parts
from mammo_d2.jobs.lesion.lesion_stages import (
    BEST_FOLDER,
    CONTEXT_MODEL,
    PATCH_FOLDER,
    PATCH_MODEL,
    is_patch_network_alone,
    last_stage,
    load_classifier,
    stage_config,
    with_own_settings,
    without_aggregation,
)
from mammo_d2.jobs.lesion.lesion_trainer import LesionTrainer
from mammo_d2.jobs.lesion.shared_stages import shared_folders, shared_runs
from mammo_d2.jobs.report_parts import ReportParts

logger = logging.getLogger(__name__)


@JOB_REGISTRY.register()
class LesionContextJob(Job):
    """The lesion classifier with global context; the result is the best f_agg, or f_loc where it is alone."""

    trainer_class = LesionTrainer
    can_share = True
    stage_keys = ("MODEL.LESION.PATCH_STAGE", "MODEL.LESION.CONTEXT_STAGE")

    def __init__(self, cfg: CfgNode):
        super().__init__(cfg)
        if cfg.MODEL.META_ARCHITECTURE not in (PATCH_MODEL, CONTEXT_MODEL):
            raise ValueError(
                f"JOB is LesionContextJob, which trains {CONTEXT_MODEL}, but MODEL.META_ARCHITECTURE is "
                f"{cfg.MODEL.META_ARCHITECTURE}: leave out JOB, or start from a config of configs/lesion_context"
            )

    def train(self, options: JobOptions) -> dict[str, Any] | None:
        """All stages, then the evaluation of the best f_agg; see ``claim_stages``.

        That is on MODEL.LESION.FINAL_TEST, or on DATASETS.TEST where there is none. An f_loc that was trained here is
        evaluated on it, too. With ``shared_only`` all that depends on the combination of maps is left out.
        """
        cfg, final = self.cfg, self.cfg.clone()
        if cfg.MODEL.LESION.FINAL_TEST:
            final.defrost()
            final.DATASETS.TEST = tuple(cfg.MODEL.LESION.FINAL_TEST)
        self._check(final)
        claim_stages(cfg, options.shared_only, options.resume)
        self._make_saliency(final, list(cfg.DATASETS.TRAIN))
        if not cfg.MODEL.LESION.PATCH_WEIGHTS:
            train_stage(stage_config(cfg, PATCH_MODEL), options.resume, options.strict_weights)
        comm.synchronize()
        results = None
        if not options.shared_only and (self._alone or not cfg.MODEL.LESION.PATCH_WEIGHTS):
            results = evaluate_best(stage_config(final, PATCH_MODEL))
        if self._alone:
            return results
        stage = stage_config(cfg, CONTEXT_MODEL)
        make_embeddings(stage)
        if options.shared_only:
            return None
        train_stage(stage, options.resume)
        comm.synchronize()
        return evaluate_best(stage_config(final, CONTEXT_MODEL))

    def evaluate(self, options: JobOptions) -> dict[str, Any]:
        """Evaluate the best f_agg on DATASETS.TEST; MODEL.WEIGHTS is not used."""
        self._check(self.cfg)
        self._make_saliency(self.cfg, [])
        return evaluate_best(stage_config(self.cfg, last_stage(self.cfg)))

    @property
    def _alone(self) -> bool:
        return is_patch_network_alone(self.cfg)

    def _check(self, final: CfgNode) -> None:
        """Check evaluators and data sets; ``final`` has those of the final evaluation in DATASETS.TEST."""
        for model in (PATCH_MODEL, CONTEXT_MODEL):
            check_evaluators(with_own_settings(self.cfg, model))
        if not self.cfg.DATASETS.ALLOW_SHARED_PATIENTS:
            check_lesions_unseen(self.cfg, final)

    def _make_saliency(self, final: CfgNode, training_sets: list[str]) -> None:
        """Of all images of the training sets, and of those with lesions of the test sets."""
        if "saliency" in self.cfg.MODEL.LESION.MAPS:
            records = load_records(self.cfg, training_sets) if training_sets else []
            tests = load_records(self.cfg, list(dict.fromkeys([*self.cfg.DATASETS.TEST, *final.DATASETS.TEST])))
            make_saliency(self.cfg, [*records, *(record for record in tests if record["annotations"])])

    def stages(self) -> list[Stage]:
        """f_loc, unless its weights are given, and f_agg; or f_loc alone."""
        configs = [with_own_settings(self.cfg, model) for model in (PATCH_MODEL, CONTEXT_MODEL)]
        names = ("patch network", "aggregation network")
        stages = [Stage(name, Path(cfg.OUTPUT_DIR).name, cfg) for name, cfg in zip(names, configs, strict=True)]
        if self._alone:
            return stages[:1]
        return stages[1:] if self.cfg.MODEL.LESION.PATCH_WEIGHTS else stages

    def is_finished(self, folder: Path) -> bool:
        """As the base class; f_loc alone, which may be another run's, when it has been evaluated."""
        if self._alone:
            return evaluation_metrics(self.evaluation_folder(folder)) is not None
        return super().is_finished(folder)

    def weights(self, folder: Path) -> Path:
        """The weights of the best f_agg, or of f_loc alone."""
        if self._alone and self.cfg.MODEL.LESION.PATCH_WEIGHTS:
            return Path(self.cfg.MODEL.LESION.PATCH_WEIGHTS)
        return super().weights(folder)

    def evaluation_folder(self, folder: Path) -> Path:
        """The evaluation of the best weights, apart from those that the training wrote."""
        return super().evaluation_folder(folder) / BEST_FOLDER

    def result_evaluation(self, folder: Path, output: Path, dataset: str) -> ResultEvaluation:
        """In the run's own folder, where its weights are known."""
        tested = tuple(self.cfg.MODEL.LESION.FINAL_TEST) or tuple(self.cfg.DATASETS.TEST)
        return ResultEvaluation(
            folder, self.evaluation_folder(folder), needs_weights=False, is_by_training=dataset in tested
        )

    def overrides_of_test(self, dataset: str) -> list[str]:
        """The final test; DATASETS.TEST chooses the weights."""
        return ["MODEL.LESION.FINAL_TEST", f"('{dataset}',)"]

    def shared_folders(self, folder: Path) -> list[str]:
        """Images and saliency, which are found by what they were made from."""
        return shared_folders(self.cfg, folder)

    @classmethod
    def shared_runs(cls, configs: Sequence[CfgNode], output: Path) -> list[SharedRun]:
        """Saliency, f_loc and embeddings, once for all runs that differ in f_agg alone."""
        return shared_runs(configs, output)

    def overrides_of_shared(self, folder: Path) -> list[str]:
        """The weights of f_loc."""
        if self.cfg.MODEL.LESION.PATCH_WEIGHTS:
            return []
        return ["MODEL.LESION.PATCH_WEIGHTS", str(result_weights(folder / PATCH_FOLDER))]

    def check_folds(self) -> None:
        """The context network, and so the saliency, would have to be another one in each fold."""
        raise ValueError(
            "JOB is LesionContextJob: its context network would have seen the test patients of most folds; use "
            "mammo-d2 train for each fold, after a context network trained without its test patients"
        )

    def check_files(self) -> None:
        """A lesion classifier needs the boxes of the lesions."""
        raise ValueError(
            "JOB is LesionContextJob, whose model scores given lesions and finds none itself; use "
            "mammo-d2 classify-lesions with this config"
        )

    def report_parts(self, folder: Path) -> ReportParts:
        """Both trainings, and every combination of maps in the folder."""
        return lesion_report_parts(self.cfg, folder)


def claim_stages(cfg: CfgNode, shared_only: bool, resume: bool) -> None:
    """Record config and data in the stages' folders, before the first training.

    Args:
        cfg: of the job.
        shared_only: without f_agg.
        resume: continue what is there; otherwise train anew.

    Raises:
        RunConflictError: a stage to be resumed was started with another config or other data.
    """
    claims, alone = {}, is_patch_network_alone(cfg)
    if alone or not cfg.MODEL.LESION.PATCH_WEIGHTS:
        claims[Path(with_own_settings(cfg, PATCH_MODEL).OUTPUT_DIR)] = without_aggregation(cfg)
    if not shared_only and not alone:
        final = cfg.clone()
        final.defrost()
        final.MODEL.LESION.FINAL_TEST = []  # evaluated anew every time
        claims[Path(with_own_settings(cfg, CONTEXT_MODEL).OUTPUT_DIR)] = final
    claim_folders(claims, "OUTPUT_DIR", resume, write=comm.is_main_process())
    if not resume and comm.is_main_process():
        # Otherwise --resume after an interruption would take an earlier run's weights for those of this one.
        for folder in claims:
            forget_training(folder)
            shutil.rmtree(folder / BEST_FOLDER, ignore_errors=True)
    comm.synchronize()


def train_stage(cfg: CfgNode, resume: bool, strict_weights: bool = False) -> None:
    """Train a stage's model; with ``resume`` continue, or do nothing if it has finished."""
    if resume and is_finished(cfg.OUTPUT_DIR):
        logger.info("%s has finished: %s", cfg.MODEL.META_ARCHITECTURE, cfg.OUTPUT_DIR)
        return
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.BOOTSTRAP.REPLICATES = 0  # evaluations on the way choose the weights by the numbers themselves
    cfg.freeze()
    # The initial weights must not depend on which stages have run in this process before.
    seed_all_rng(cfg.SEED + comm.get_rank())
    trainer = LesionTrainer(cfg, strict_weights=strict_weights)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def evaluate_best(stage: CfgNode) -> dict[str, Any]:
    """Evaluate the best weights of a stage, or the given ones of f_loc, in the folder ``best`` of its OUTPUT_DIR.

    This keeps the results apart from those of the last weights, which the training writes.
    """
    cfg = stage.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = str(Path(stage.OUTPUT_DIR) / BEST_FOLDER)
    cfg.freeze()
    given = cfg.MODEL.LESION.PATCH_WEIGHTS if cfg.MODEL.META_ARCHITECTURE == PATCH_MODEL else ""
    return LesionTrainer.test(cfg, load_classifier(stage, Path(given) if given else result_weights(stage.OUTPUT_DIR)))


def check_lesions_unseen(cfg: CfgNode, final: CfgNode) -> None:
    """Check that no test patient was used to choose the weights or to train the given networks.

    The training data of these networks are known if ``config.yaml`` lies beside their weights or one folder above.

    Args:
        cfg: of the job; its training and test sets have been compared already.
        final: the same config with the data sets of the final evaluation in DATASETS.TEST.

    Raises:
        ValueError: there are such patients.
    """
    seen = [(cfg.DATASETS.TRAIN, final.DATASETS.TEST), (cfg.DATASETS.TEST, final.DATASETS.TEST)]
    for weights in (cfg.MODEL.LESION.CONTEXT_WEIGHTS, cfg.MODEL.LESION.PATCH_WEIGHTS):
        path = config_of_weights(weights) if weights else None
        if path is not None:
            trained = read_config(path).get("DATASETS", {}).get("TRAIN", ())
            seen.append((trained, (*cfg.DATASETS.TEST, *final.DATASETS.TEST)))
    for train, test in seen:
        pair = cfg.clone()
        pair.defrost()
        pair.DATASETS.TRAIN, pair.DATASETS.TEST = tuple(train), tuple(test)
        check_patients_apart(pair)
