"""Prediction on a Dask cluster: batches of files go to worker processes that hold the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from mammo_d2.config.modules import import_modules
from mammo_d2.core.processes.cluster_map import ClusterMap
from mammo_d2.framework import CfgNode
from mammo_d2.inference.boxes.fused_predictions import BatchPredictor, Ensemble
from mammo_d2.inference.boxes.test_time_augmentation import TestTimeAugmentation
from mammo_d2.inference.prediction_files import FileProblem, Prediction
from mammo_d2.inference.predictor import Predictor

Batch = Sequence[tuple[int, str]]
Outcomes = list[Prediction | FileProblem]


@dataclass(frozen=True)
class PredictorRecipe:
    """What predictors are made from, in this process or in others.

    Attributes:
        cfgs: of the models, with their weights; several are an ensemble.
        autocast, augmentation, in_breast: of ``Predictor``.
        fusion_iou: of ``Ensemble``.
    """

    cfgs: Sequence[CfgNode]
    autocast: bool = False
    augmentation: TestTimeAugmentation = field(default_factory=TestTimeAugmentation)
    in_breast: bool = False
    fusion_iou: float = 0.55

    def predictors(self) -> list[Predictor]:
        """One for each model."""
        return [
            Predictor(cfg, autocast=self.autocast, augmentation=self.augmentation, in_breast=self.in_breast)
            for cfg in self.cfgs
        ]

    def joined(self, predictors: Sequence[Predictor]) -> BatchPredictor:
        """The predictors as one."""
        most = max(cfg.TEST.DETECTIONS_PER_IMAGE for cfg in self.cfgs)
        return predictors[0] if len(predictors) == 1 else Ensemble(predictors, self.fusion_iou, most)


class ClusterPredictor:
    """Predicts on a cluster what ``local`` would predict, with the same results in the same order.

    Attributes:
        classes: class names by class number.
    """

    def __init__(self, address: str, recipe: PredictorRecipe, local: BatchPredictor):
        """
        Args:
            address: see ``ClusterMap``.
            recipe: each worker process makes its predictors from it; weights must be found there under the same name.
            local: predicts batches of which several workers have died; it reads files in processes of their own.
        """
        self.classes = list(local.classes)
        self._address, self._recipe, self._local = address, recipe, local

    def predict_batches(
        self, batches: Sequence[Batch], *, strict: bool = False, pictures: bool = False
    ) -> Iterator[Outcomes]:
        """As ``Predictor.predict_batches``.

        Raises:
            ClusterError: see ``ClusterMap``.
            ValueError: with ``strict``, a file that cannot be used.
        """
        run: ClusterMap[Batch, Outcomes] = ClusterMap(
            self._address, worker_function, partial(_first, self._local, pictures), (self._recipe, pictures)
        )
        with closing(run(list(batches))) as running:
            for outcomes in running:
                problems = [outcome for outcome in outcomes if isinstance(outcome, FileProblem)]
                if strict and problems:
                    raise ValueError(problems[0].problem)
                yield outcomes


def worker_function(recipe: PredictorRecipe, pictures: bool) -> partial[Outcomes]:
    """Load the models in a worker process; the function of a batch."""
    cfgs = []
    for cfg in recipe.cfgs:
        # They were imported when the config was loaded, in another process.
        import_modules(cfg.clone(), cfg.MODULES)
        # Workers of the cluster are the parallelism, and may have no processes of their own.
        changed = cfg.clone()
        changed.defrost()
        changed.DATALOADER.NUM_WORKERS = 0
        cfgs.append(changed)
    alone = PredictorRecipe(cfgs, recipe.autocast, recipe.augmentation, recipe.in_breast, recipe.fusion_iou)
    return partial(_first, alone.joined(alone.predictors()), pictures)


def _first(predictor: BatchPredictor, pictures: bool, batch: Batch) -> Outcomes:
    return next(iter(predictor.predict_batches([batch], pictures=pictures)))
