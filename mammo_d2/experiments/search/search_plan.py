"""What a hyper-parameter search varies and goes by, checked before any training."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammo_d2.config.epochs import evaluates_on_the_way
from mammo_d2.config.loading import load_config
from mammo_d2.experiments.search.search_ranges import Range, overrides_of
from mammo_d2.experiments.search.trial import SearchError
from mammo_d2.framework import CfgNode
from mammo_d2.jobs.job import build_job

SAMPLERS, PRUNERS = ("random", "tpe"), ("none", "median", "halving")


@dataclass(frozen=True)
class SearchPlan:
    """What is searched, and how.

    Attributes:
        config_file: the config that every trial starts from.
        ranges: of the keys that are searched.
        output: folder; one sub-folder a trial, the study, and the tables of ``write_report``.
        overrides: KEY VALUE overrides for all trials.
        metric: of the validation set, as logged, e.g. "image/malignant/auc"; empty: TEST.BEST_METRIC.
        mode: "max" or "min"; empty: TEST.BEST_MODE.
        sampler: one of ``SAMPLERS``.
        pruner: one of ``PRUNERS``; "median" ends trials below the median of the others at the same evaluation,
            "halving" (successive halving) those not among the best quarter at evaluations 1, 4, 16, ... times
            ``prune_after``.
        prune_after: first evaluation at which a trial may be ended.
        seed: of the sampler, and of the trainings whose config has a negative SEED.
    """

    config_file: str
    ranges: Sequence[Range]
    output: Path
    overrides: Sequence[str] = field(default_factory=list)
    metric: str = ""
    mode: str = ""
    sampler: str = "tpe"
    pruner: str = "none"
    prune_after: int = 1
    seed: int = 0

    def complete(self) -> "SearchPlan":
        """With metric and mode filled in, and the overrides that every trial needs; checked.

        Raises:
            SearchError: no validation set or metric to go by, or nothing to prune on.
        """
        job = build_job(load_config(self.config_file, list(self.overrides)))
        cfg = job.cfg
        check_watched_set(cfg)
        metric, mode = self.metric or cfg.TEST.BEST_METRIC, self.mode or cfg.TEST.BEST_MODE
        _check_metric(cfg, metric, mode)
        if self.sampler not in SAMPLERS or self.pruner not in PRUNERS or self.prune_after < 1:
            raise SearchError(
                f"sampler {self.sampler!r}, pruner {self.pruner!r}, prune after {self.prune_after}: use one of "
                f"{', '.join(SAMPLERS)}, one of {', '.join(PRUNERS)}, and at least 1"
            )
        if self.pruner != "none" and not evaluates_on_the_way(job.stages()[-1].cfg):
            raise SearchError(
                "TEST.EVAL_PERIOD is 0: there is nothing to prune on; set it, or TEST.EVAL_EPOCHS with "
                "SOLVER.EPOCHS, or use --pruner none"
            )
        added = ["TEST.BEST_METRIC", metric, "TEST.BEST_MODE", mode]
        if cfg.SEED < 0:
            added += ["SEED", str(self.seed)]
        added += job.shared_folders(self.output.resolve() / "shared")
        values = {**self.__dict__, "overrides": [*self.overrides, *added], "metric": metric, "mode": mode}
        return SearchPlan(**values)

    def settings(self) -> dict[str, Any]:
        """What must not change when a search is resumed, beside its config."""
        return {
            "ranges": {searched.key: searched.as_yaml() for searched in self.ranges},
            **{name: getattr(self, name) for name in ("sampler", "pruner", "prune_after", "seed")},
        }

    def trial_overrides(self, parameters: dict[str, Any]) -> list[str]:
        """KEY VALUE overrides of a trial."""
        cfg = load_config(self.config_file, list(self.overrides))
        return [*self.overrides, *overrides_of(cfg, parameters)]


def check_watched_set(cfg: CfgNode) -> None:
    """Refuse to search on anything but one validation set.

    DATASETS.TEST is what a training evaluates while it runs. The name is all there is to tell a validation set from a
    test set by.

    Raises:
        SearchError: no set or several, a training set, or one that is named as a test set.
    """
    watched = list(cfg.DATASETS.TEST)
    remedy = "name the validation set with --validation (DATASETS.TEST of the trials)"
    if len(watched) != 1:
        raise SearchError(f"DATASETS.TEST is {watched}; a search goes by one set: {remedy}")
    if re.search(r"(^|[_\W])test\d*($|[_\W])", watched[0], re.IGNORECASE):
        raise SearchError(f"DATASETS.TEST is {watched[0]}: values chosen on a test set make it useless; {remedy}")
    if watched[0] in cfg.DATASETS.TRAIN:
        raise SearchError(f"DATASETS.TEST is {watched[0]}, which is trained on; {remedy}")


def _check_metric(cfg: CfgNode, metric: str, mode: str) -> None:
    known = list(cfg.TEST.EVALUATORS)
    epochs = cfg.SOLVER.EPOCHS and cfg.TEST.LOSS_EPOCHS
    if (epochs and epochs == cfg.TEST.EVAL_EPOCHS) or 0 < cfg.TEST.LOSS_PERIOD == cfg.TEST.EVAL_PERIOD:
        known.append("validation")
    if metric.split("/")[0] not in known:
        raise SearchError(
            f"metric {metric!r}: write TASK/KEY as logged, e.g. image/malignant/auc, with a task of TEST.EVALUATORS "
            f"({', '.join(known)}), or validation/total_loss with TEST.LOSS_PERIOD equal to TEST.EVAL_PERIOD"
        )
    if mode not in ("max", "min"):
        raise SearchError(f"mode {mode!r}: use max or min")
