"""MammoTrainer: the training job on either engine, with an exact resume."""

import logging
import weakref
from pathlib import Path
from typing import NoReturn

import torch
from torch import nn

from mammo_d2.config.epochs import resolve_epochs
from mammo_d2.core.files import atomic_write, write_json
from mammo_d2.core.processes.stop_signals import StopSignals
from mammo_d2.data.loading.loader import build_test_loader, build_train_loader, epoch_images
from mammo_d2.engine.cost import PredictionClock, TrainingCost
from mammo_d2.engine.evaluator_check import check_evaluators, check_preprocessing
from mammo_d2.engine.hooks import EMA, BestAndEarlyStop, EventWriting, PeriodicEvaluation, StepSeed
from mammo_d2.engine.monitoring.tracking import Tracking
from mammo_d2.engine.monitoring.validation_pictures import build_validation_pictures
from mammo_d2.engine.optimizer import build_optimizer
from mammo_d2.engine.run_files.checkpoint_copies import CheckpointCopies
from mammo_d2.engine.run_files.preparation_record import record_preparation
from mammo_d2.engine.run_files.run_folder import (
    CONFIG_FILE,
    EMA_WEIGHTS,
    FINAL_WEIGHTS,
    LAST_GOOD_WEIGHTS,
    METRICS_FILE,
    UNEVALUATED_WEIGHTS,
    forget_evaluation,
    inference_folder,
)
from mammo_d2.engine.setup import draw_seed
from mammo_d2.engine.step import NonFiniteLossError, StepTrainer, amp_dtype
from mammo_d2.engine.validation_loss import ValidationLoss
from mammo_d2.evaluation.evaluators.registered import build_evaluators
from mammo_d2.framework import (
    ENGINE,
    CfgNode,
    DefaultTrainer,
    EventStorage,
    SafeCheckpointer,
    comm,
    hooks,
    setup_logger,
)

logger = logging.getLogger(__name__)


class MammoTrainer(DefaultTrainer):
    """DefaultTrainer with this package's data, evaluators, optimizers and step.

    A run that is killed at any moment and started again with ``resume=True`` ends with the same weights as one that was
    never interrupted: data order and augmentation follow from the seed and the iteration, random numbers of the step
    are re-seeded each iteration, and optimizer, scheduler, scaler, averages and hooks are part of the checkpoint. On a
    GPU, where sums are not always formed in the same order, the last bits need SOLVER.DETERMINISTIC as well.
    """

    def __init__(self, cfg: CfgNode, strict_weights: bool = False):
        """
        Args:
            cfg: the config, with as many classes as its categories (``load_config``), its data sets registered. A
                negative SEED becomes a fresh one; give one to be able to resume exactly.
            strict_weights: loading MODEL.WEIGHTS fails unless its names and shapes are the model's.
        """
        self._strict_weights = strict_weights
        if ENGINE == "detectron2" and not logger.isEnabledFor(logging.INFO):
            setup_logger(name="mammo_d2")  # as its trainer does for its own messages
        if cfg.SEED < 0:
            cfg = cfg.clone()
            cfg.defrost()
            cfg.SEED = draw_seed()
            cfg.freeze()
            logger.info("SEED was negative and is now %d", cfg.SEED)
        if cfg.SOLVER.EPOCHS:
            cfg = cfg.clone()
            logger.info(self.resolve_epochs(cfg))
        # Fail before anything is built, not hours later.
        amp_dtype(cfg)
        check_evaluators(cfg)
        # The engines' own mixed-precision step needs a GPU; StepTrainer below does the job on every device.
        base = cfg.clone()
        base.defrost()
        base.SOLVER.AMP.ENABLED = False
        self.ema: EMA | None = None
        self._stop_reason: str | None = None
        self.stopped_by_signal = False
        address = cfg.SOLVER.CHECKPOINT_COPY
        self._copies = CheckpointCopies(address, Path(cfg.OUTPUT_DIR)) if address else None
        super().__init__(base)
        self.cfg = cfg
        self._step = StepTrainer(cfg, self._trainer.model, self._trainer.data_loader, self._trainer.optimizer)
        self._trainer = self._step

    @classmethod
    def resolve_epochs(cls, cfg: CfgNode) -> str:
        """Set the iterations that follow from SOLVER.EPOCHS, in place; see ``mammo_d2.config.epochs``."""
        return resolve_epochs(cfg, lambda: cls.epoch_images(cfg))

    # --- parts of the job ---------------------------------------------------------------------------------------
    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        check_preprocessing(cfg)
        if len(cfg.MODEL.PIXEL_MEAN) == 1 and cfg.INPUT.FORMAT != "L":
            # detectron2's pictures of the training (VIS_PERIOD) take images of format BGR for three channels.
            cfg = cfg.clone()
            cfg.defrost()
            cfg.INPUT.FORMAT = "L"
        model = super().build_model(cfg)
        if cfg.SOLVER.CHANNELS_LAST:
            model = model.to(memory_format=torch.channels_last)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iter: int = 0):
        return build_train_loader(cfg, start_iter=start_iter)

    @classmethod
    def epoch_images(cls, cfg: CfgNode) -> float:
        """Number of images of an epoch of ``build_train_loader``, over all ranks."""
        return epoch_images(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str):
        return build_evaluators(cfg, dataset_name, str(inference_folder(cfg.OUTPUT_DIR, dataset_name)))

    def build_hooks(self) -> list:
        cfg = self.cfg
        # Replace the checkpointer before hooks bind to it.
        self.checkpointer = SafeCheckpointer(
            unwrap(self.model), cfg.OUTPUT_DIR, strict_weights=self._strict_weights, trainer=weakref.proxy(self)
        )
        if self._copies is not None:
            self.checkpointer.on_saved = self._copies.put
        # No warm-up: the writers of detectron2 fail in runs that end before the first measured iteration.
        built = [StepSeed(cfg.SEED), hooks.IterationTimer(warmup_iter=0), hooks.LRScheduler()]
        if cfg.SOLVER.EMA.ENABLED:
            self.ema = EMA(unwrap(self.model), cfg.SOLVER.EMA.DECAY)
            built.append(self.ema)
        if cfg.TEST.LOSS_PERIOD > 0:
            built.append(
                ValidationLoss(
                    cfg.TEST.LOSS_PERIOD,
                    cfg.DATASETS.TEST,
                    lambda name: build_test_loader(cfg, name, with_instances=True),
                )
            )
        built.append(PeriodicEvaluation(cfg.TEST.EVAL_PERIOD, self._evaluate))
        if cfg.TEST.TENSORBOARD_IMAGES and comm.is_main_process():
            model = lambda: self.ema.model if self.ema is not None else unwrap(self.model)  # noqa: E731
            built += build_validation_pictures(cfg, model)
        if cfg.TEST.BEST_METRIC:
            if cfg.TEST.EVAL_PERIOD <= 0:
                logger.warning(
                    "TEST.BEST_METRIC is %s, but TEST.EVAL_PERIOD is 0: there will be no model_best.pth",
                    cfg.TEST.BEST_METRIC,
                )
            built.append(
                BestAndEarlyStop(
                    cfg.TEST.EVAL_PERIOD,
                    cfg.TEST.BEST_METRIC,
                    cfg.TEST.BEST_MODE,
                    cfg.TEST.EARLY_STOP_PATIENCE,
                    save=self._save_weights,
                    stop=self.request_stop,
                )
            )
        # After the evaluation, so that a checkpoint holds what the evaluation decided and resuming repeats nothing.
        if comm.is_main_process():
            built.append(TrainingCost(Path(cfg.OUTPUT_DIR)))
            periods = [cfg.TEST.EVAL_PERIOD, cfg.TEST.LOSS_PERIOD, cfg.SOLVER.CHECKPOINT_PERIOD]
            built.append(EventWriting(self.build_writers(), periods))
            if cfg.TRACKER.NAME:
                built.append(Tracking(cfg, periods))
            built.append(hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD))
        return built

    def _evaluate(self):
        model = self.ema.model if self.ema is not None else self.model
        self._last_eval_results = self.test(self.cfg, model)
        return self._last_eval_results

    def after_step(self) -> None:
        """The hooks after a step; if one fails (an evaluation, say), the weights trained so far are saved first."""
        try:
            super().after_step()
        except Exception:
            if comm.is_main_process():
                path = self._save_weights(UNEVALUATED_WEIGHTS)
                logger.error(
                    "A hook after iteration %d failed, see the error below. The weights trained so far are in %s; "
                    "evaluate them with --eval-only MODEL.WEIGHTS",
                    self.iter,
                    path,
                )
            raise

    def _save_weights(self, name: str) -> Path:
        """Save the weights alone (the average if there is one); the checkpoint that a resume starts from stays."""
        model = self.ema.model if self.ema is not None else unwrap(self.model)
        path = Path(self.cfg.OUTPUT_DIR) / name
        save_weights(model, path)
        return path

    # --- running ------------------------------------------------------------------------------------------------
    def resume_or_load(self, resume: bool = True) -> None:
        if resume and self._copies is not None:
            for is_turn in (comm.is_main_process(), comm.get_local_rank() == 0):
                if is_turn:  # of the second, on machines that do not see the first one's folder
                    self._copies.fetch()
                comm.synchronize()
        super().resume_or_load(resume=resume)
        if self.start_iter > 0:
            cfg, start = self.cfg, self.start_iter * self.cfg.SOLVER.ACCUMULATE
            self._trainer.reset_data_loader(lambda: self.build_train_loader(cfg, start_iter=start))

    def request_stop(self, reason: str) -> None:
        """End the training after the current iteration; hooks may call it."""
        self._stop_reason = reason

    def record_config(self) -> None:
        """Write what ``setup`` writes of a config, unless it has done so."""
        path, text = Path(self.cfg.OUTPUT_DIR) / CONFIG_FILE, self.cfg.dump()
        if path.is_file() and path.read_text() == text:
            return
        with atomic_write(path, "w") as file:
            file.write(text)
        record_preparation(self.cfg)

    def train(self):
        """Train from ``start_iter`` to ``max_iter`` or to an early stop.

        Ctrl-C (SIGINT) and SIGTERM save a checkpoint after the current iteration and its evaluation, then stop.

        The first thing is ``config.yaml`` (and ``preparation.json``) in ``OUTPUT_DIR``, where ``setup`` has not written
        it already: reports and predictions need it.

        Returns:
            The last evaluation's results, None without evaluation.

        Raises:
            KeyboardInterrupt, SystemExit: stopped by SIGINT, by SIGTERM.
            NonFiniteLossError: a loss became NaN or infinite; the weights before that step are saved.
        """
        logger.info("Training from iteration %d to %d", self.start_iter, self.max_iter)
        self.iter = self.start_iter
        if self.start_iter >= self.max_iter:
            logger.info("Nothing to train: the checkpoint is at the last iteration already")
            self._save_average()  # the run may have been killed before
            return None
        if comm.is_main_process():
            self.record_config()
        with EventStorage(self.start_iter) as self.storage, StopSignals(logger.warning) as signals:
            try:
                self.before_train()
                for iteration in range(self.start_iter, self.max_iter):
                    if self._stop_reason is None:
                        self.iter = iteration
                        self._one_iteration(signals)
                    else:  # a hook asked in before_train: the run was interrupted when it was about to stop
                        self.iter = iteration - 1
                    if self._stop_reason is not None:
                        logger.info("Stopping at iteration %d: %s", self.iter, self._stop_reason)
                        self.max_iter = self.iter + 1
                        if comm.is_main_process():
                            self.checkpointer.save(Path(FINAL_WEIGHTS).stem, iteration=self.iter)
                        break
                    if number := self._agreed(signals.number):
                        self._stop_by(signals, number)
            except NonFiniteLossError:
                if comm.is_main_process() and self.iter > self.start_iter:
                    self.iter -= 1
                    self.checkpointer.save(Path(LAST_GOOD_WEIGHTS).stem, iteration=self.iter)
                raise
            finally:
                self.after_train()
        self._save_average()
        return getattr(self, "_last_eval_results", None)

    def _save_average(self) -> None:
        if self.ema is not None and self.ema.has_begun and comm.is_main_process():
            self._save_weights(EMA_WEIGHTS)

    def _one_iteration(self, signals: StopSignals) -> None:
        try:
            self.before_step()
            self.run_step()
            self.after_step()
        except Exception:
            if not signals.number:
                raise
            # The signal has ended the data loader's processes, too.
            logger.warning("The iteration that was interrupted failed", exc_info=True)
            if self._step.step_begun or comm.get_world_size() > 1:
                logger.warning("Iteration %d is lost; --resume goes on from the last checkpoint", self.iter)
                signals.stop(signals.number)
            self.iter -= 1
            self._stop_by(signals, signals.number)

    def _agreed(self, number: int) -> int:
        """The signal that any of the processes got, so that all stop after the same iteration; 0 for none."""
        if comm.get_world_size() == 1:
            return number
        value = torch.tensor(number, device=self.cfg.MODEL.DEVICE)
        torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
        return int(value)

    def _stop_by(self, signals: StopSignals, number: int) -> NoReturn:
        """Save a checkpoint after the last whole iteration, unless the training is at its end, and stop."""
        self.stopped_by_signal = True
        if comm.is_main_process() and self.start_iter <= self.iter < self.max_iter - 1:
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
            logger.warning("Stopped after iteration %d; --resume goes on from there", self.iter)
        comm.synchronize()
        signals.stop(number)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None):
        """Evaluate on every data set of ``DATASETS.TEST``; metrics and predictions go to ``OUTPUT_DIR/inference``.

        In float32 also after a mixed-precision training. Results of an earlier evaluation are deleted first.
        """
        if comm.is_main_process():
            for name in cfg.DATASETS.TEST:
                forget_evaluation(cfg.OUTPUT_DIR, name)
        with PredictionClock(model) as clock:
            results = super().test(cfg, model, evaluators)
        if comm.is_main_process():
            per_dataset = {cfg.DATASETS.TEST[0]: results} if len(cfg.DATASETS.TEST) == 1 else results
            for name in cfg.DATASETS.TEST:
                folder = inference_folder(cfg.OUTPUT_DIR, name)
                write_json(folder / METRICS_FILE, per_dataset[name], indent=2, nan_as_null=True)
                clock.write(folder)
        return results


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a DistributedDataParallel wrapper, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def save_weights(model: nn.Module, path: Path) -> None:
    """Write ``{"model": state_dict}`` atomically, readable as MODEL.WEIGHTS."""
    with atomic_write(path) as file:
        torch.save({"model": model.state_dict()}, file)
