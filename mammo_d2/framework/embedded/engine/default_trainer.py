"""DefaultTrainer: the training job made from a config."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from mammo_d2.framework.embedded.config import CfgNode
from mammo_d2.framework.embedded.detector.rcnn import build_model
from mammo_d2.framework.embedded.engine import hooks
from mammo_d2.framework.embedded.engine.checkpoint import SafeCheckpointer
from mammo_d2.framework.embedded.engine.inference import DatasetEvaluator, inference_on_dataset, print_csv_format
from mammo_d2.framework.embedded.engine.job_setup import create_ddp_model, default_writers, is_logging_configured
from mammo_d2.framework.embedded.engine.solver import LRMultiplier, build_lr_scheduler, build_optimizer
from mammo_d2.framework.embedded.engine.trainer import HookBase, SimpleTrainer, TrainerBase
from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.embedded.utils.log import setup_logger
from mammo_d2.framework.embedded.utils.writers import EventWriter

logger = logging.getLogger(__name__)


class DefaultTrainer(TrainerBase):
    """Model, optimizer, schedule, checkpoints, evaluation and logs as the config says.

    The class methods build_model, build_optimizer, build_lr_scheduler, build_train_loader, build_test_loader and
    build_evaluator, and the methods build_hooks and build_writers, are there to be overridden. The loaders have to be:
    the embedded engine has none of its own.

    Attributes:
        cfg: the config.
        scheduler: learning rate schedule.
        checkpointer: saves model and trainer.
    """

    def __init__(self, cfg: CfgNode):
        super().__init__()
        if not is_logging_configured():
            setup_logger()
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())

        # Each of these may draw random numbers: the order is part of what a seed means.
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)

        model = create_ddp_model(model, broadcast_buffers=False)
        self._trainer = SimpleTrainer(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @property
    def model(self) -> nn.Module:
        """The model, wrapped in a distributed job."""
        return self._trainer.model

    @model.setter
    def model(self, model: nn.Module) -> None:
        self._trainer.model = model

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Optimizer) -> None:
        self._trainer.optimizer = optimizer

    @property
    def data_loader(self) -> Iterable[Any]:
        """The training loader."""
        return self._trainer.data_loader

    @data_loader.setter
    def data_loader(self, data_loader: Iterable[Any]) -> None:
        self._trainer.data_loader = data_loader

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint in OUTPUT_DIR, or start from the weights of cfg.MODEL.WEIGHTS.

        Args:
            resume: continue if there is a checkpoint; then MODEL.WEIGHTS is not used.
        """
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1  # a checkpoint holds the iteration that was finished

    def build_hooks(self) -> list[HookBase | None]:
        """Hooks in their order: timing, schedule, checkpoints, evaluation, writers.

        Checkpoints come before the evaluation: if that fails, the weights it failed on are there.

        Raises:
            ValueError: the config asks for what only detectron2's DefaultTrainer does.
        """
        cfg = self.cfg
        for key, asked in (
            ("SOLVER.AMP.ENABLED", cfg.SOLVER.AMP.ENABLED),
            ("TEST.PRECISE_BN.ENABLED", cfg.TEST.PRECISE_BN.ENABLED),
            ("TEST.EXPECTED_RESULTS", cfg.TEST.EXPECTED_RESULTS),
        ):
            if asked:
                raise ValueError(
                    f"{key} is {asked!r}, but DefaultTrainer of the embedded engine does not do that: turn it off, use "
                    "mammo_d2's MammoTrainer (mixed precision), or install detectron2"
                )
        built: list[HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if comm.is_main_process():
            built.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))

        def evaluate() -> Mapping[str, Any]:
            self._last_eval_results = self.test(self.cfg, self.model)
            return self._last_eval_results

        built.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, evaluate))
        if comm.is_main_process():
            built.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return built

    def build_writers(self) -> list[EventWriter]:
        """Writers of the logs; default: ``default_writers``."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> None:  # type: ignore[override]  # the iterations are the config's
        """Run the training, from ``start_iter`` to ``max_iter``."""
        super().train(self.start_iter, self.max_iter)

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of cfg.MODEL.META_ARCHITECTURE."""
        model = build_model(cfg)
        logger.info("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """The optimizer of cfg.SOLVER."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRMultiplier:
        """The schedule of cfg.SOLVER."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Endless training batches of cfg.DATASETS.TRAIN; to be overridden."""
        raise NotImplementedError(
            "override build_train_loader, e.g. by mammo_d2.build_train_loader(cfg): the embedded engine has no loader "
            "of its own"
        )

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        """Batches of one data set, each image once; to be overridden."""
        raise NotImplementedError(
            "override build_test_loader, e.g. by mammo_d2.build_test_loader(cfg, dataset_name): the embedded engine "
            "has no loader of its own"
        )

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """The evaluator of one data set; to be overridden."""
        raise NotImplementedError("override build_evaluator to have DefaultTrainer evaluate")

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> Mapping[str, Any]:
        """Evaluate a model that has its weights on every data set of cfg.DATASETS.TEST.

        Args:
            cfg: the config.
            model: the model.
            evaluators: one per data set; default: ``build_evaluator``.

        Returns:
            The results {task: {metric: value}} for one data set, {data set: results} for several.
        """
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise AssertionError(f"{len(evaluators)} evaluators for the {len(names)} data sets of DATASETS.TEST")
        results: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        for index, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            if evaluators is not None:
                evaluator = evaluators[index]
            else:
                try:
                    evaluator = cls.build_evaluator(cfg, name)
                except NotImplementedError:
                    logger.warning("No evaluator for %s: override build_evaluator, or pass evaluators", name)
                    results[name] = {}
                    continue
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                if not isinstance(results[name], Mapping):
                    raise TypeError(f"the evaluator must return a dict on the main process, not {results[name]!r}")
                logger.info("Results for %s:", name)
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Adapt a config written for SOLVER.REFERENCE_WORLD_SIZE processes to another number.

        The images per process stay the same: batch size and learning rate grow with the number of processes, and
        everything counted in iterations shrinks with it.

        Args:
            cfg: the config, not changed.
            num_workers: processes of this job.

        Returns:
            The same config if REFERENCE_WORLD_SIZE is 0 or ``num_workers``, otherwise a changed copy.

        Raises:
            ValueError: the batch size is not a multiple of REFERENCE_WORLD_SIZE.
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        if cfg.SOLVER.IMS_PER_BATCH % reference != 0:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} is not a multiple of "
                f"SOLVER.REFERENCE_WORLD_SIZE {reference}"
            )
        was_frozen = cfg.is_frozen()
        cfg = cfg.clone()
        cfg.defrost()
        scale = num_workers / reference
        solver = cfg.SOLVER
        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
        solver.BASE_LR = solver.BASE_LR * scale
        solver.MAX_ITER = round(solver.MAX_ITER / scale)
        solver.WARMUP_ITERS = round(solver.WARMUP_ITERS / scale)
        solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
        solver.CHECKPOINT_PERIOD = round(solver.CHECKPOINT_PERIOD / scale)
        cfg.TEST.EVAL_PERIOD = round(cfg.TEST.EVAL_PERIOD / scale)
        solver.REFERENCE_WORLD_SIZE = num_workers
        logger.info(
            "Config scaled from %d to %d processes: batch size %d, learning rate %g, %d iterations, %d of warm-up",
            reference, num_workers, solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.WARMUP_ITERS,
        )  # fmt: skip
        if was_frozen:
            cfg.freeze()
        return cfg
