"""The training loop: hooks around a step, and the plain and mixed-precision step."""

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.embedded.utils.events import EventStorage, get_event_storage

logger = logging.getLogger(__name__)


class HookBase:
    """Base class of hooks. The trainer calls them in the order of registration.

    before_train, then for each iteration before_step, (forward, backward) after_backward, after_step; at the end, also
    after an exception, after_train. A stateful hook has `state_dict` and `load_state_dict`; its state is part of the
    checkpoint under the name of its class.
    """

    trainer: "TrainerBase" = None  # type: ignore[assignment]  # a weak reference, set when the hook is registered

    def before_train(self) -> None:
        """Before the first iteration."""

    def after_train(self) -> None:
        """After the last iteration; trainer.iter == trainer.max_iter tells that training was completed."""

    def before_step(self) -> None:
        """Before each iteration; should take no time worth measuring."""

    def after_backward(self) -> None:
        """Between backward pass and optimizer step."""

    def after_step(self) -> None:
        """After each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """State to save in checkpoints; tensors and plain Python values only."""
        return {}


class TrainerBase:
    """A loop from start_iter to max_iter with hooks and an event storage. A subclass says what a step is.

    Attributes:
        iter: the current iteration.
        start_iter: the iteration the loop starts at.
        max_iter: the iteration it stops before.
        storage: the event storage, open during `train`.
    """

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter = 0
        self.start_iter = 0
        self.max_iter: int
        self.storage: EventStorage

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Append hooks; None is skipped."""
        for hook in hooks:
            if hook is None:
                continue
            if not isinstance(hook, HookBase):
                raise TypeError(f"a hook must be a HookBase, not {type(hook)}")
            hook.trainer = weakref.proxy(self)  # the trainer owns the hook: no cycle
            self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the loop.

        Args:
            start_iter: first iteration.
            max_iter: iteration to stop before.
        """
        logger.info("Training: iterations %d to %d", start_iter, max_iter - 1)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                self.iter += 1  # only a completed training gets to max_iter: hooks look at it in after_train
            except Exception:
                logger.exception("Training stopped at iteration %d by an error", self.iter)
                raise
            finally:
                self.after_train()

    def run_step(self) -> None:
        """One iteration."""
        raise NotImplementedError

    def before_train(self) -> None:
        """Call the hooks' before_train."""
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        """Call the hooks' after_train."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        """Call the hooks' before_step, with the storage at this iteration."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        """Call the hooks' after_backward."""
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        """Call the hooks' after_step."""
        for hook in self._hooks:
            hook.after_step()

    def state_dict(self) -> dict[str, Any]:
        """The iteration and the hooks' states by class name; further hooks of one class get "#2", "#3" appended."""
        state: dict[str, Any] = {"iteration": self.iter}
        hook_states = {key: s for key, hook in self._named_hooks() if (s := hook.state_dict())}
        if hook_states:
            state["hooks"] = hook_states
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave. A state without its hook is reported and left out."""
        self.iter = state_dict["iteration"]
        hooks = dict(self._named_hooks())
        for key, state in state_dict.get("hooks", {}).items():
            if key in hooks:
                hooks[key].load_state_dict(state)  # type: ignore[attr-defined]  # a hook with a state has it
            else:
                logger.warning("The checkpoint has a state for the hook %s, which this run does not use", key)

    def _named_hooks(self) -> Iterator[tuple[str, HookBase]]:
        counts: dict[str, int] = {}
        for hook in self._hooks:
            name = type(hook).__qualname__
            counts[name] = counts.get(name, 0) + 1
            yield (name if counts[name] == 1 else f"{name}#{counts[name]}"), hook


class SimpleTrainer(TrainerBase):
    """A step is: one batch, the sum of the model's losses, backward, optimizer step."""

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ):
        """
        Args:
            model: batch -> dict of scalar losses (or one scalar loss); put into training mode here.
            data_loader: endless iterable of batches.
            optimizer: the optimizer.
            gather_metric_period: iterations between two logs of the losses, averaged over the ranks.
            zero_grad_before_forward: clear gradients before the forward pass rather than before backward.
            async_write_metrics: log the losses in another thread, which spares waiting for the GPU.
        """
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self._data_loader_iter_obj: Iterator[Any] | None = None
        self._metric_thread: ThreadPoolExecutor | None = None
        self._metrics_pending: Future | None = None

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        if self._data_loader_iter_obj is None:  # made when first used: it starts the loader's processes
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Replace the loader, and its running iterator, by a new one."""
        self._data_loader_iter_obj = None  # ends the old loader's processes before the new ones start
        self.data_loader = data_loader_builder()

    def run_step(self) -> None:
        if not self.model.training:
            raise AssertionError("the model is in evaluation mode: a hook did not switch it back with model.train()")
        data, data_time = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        losses = self._losses(data)
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self._total(losses).backward()
        self.after_backward()
        self._log_losses(losses, data_time)
        self.optimizer.step()

    def _next_batch(self) -> tuple[Any, float]:
        """The next batch and the seconds waited for it."""
        start = time.perf_counter()
        return next(self._data_loader_iter), time.perf_counter() - start

    def _losses(self, data: Any) -> dict[str, Tensor]:
        losses = self.model(data)
        return {"total_loss": losses} if isinstance(losses, Tensor) else losses

    @staticmethod
    def _total(losses: Mapping[str, Tensor]) -> Tensor:
        total: Any = sum(losses.values())
        return total

    def _log_losses(self, losses: Mapping[str, Tensor], data_time: float) -> None:
        if not self.async_write_metrics:
            self._write_metrics(losses, data_time)
            return
        if self._metric_thread is None:
            self._metric_thread = ThreadPoolExecutor(max_workers=1)  # one thread keeps the order
        if self._metrics_pending is not None and self._metrics_pending.done():
            self._metrics_pending.result()  # raises what went wrong there
        self._metrics_pending = self._metric_thread.submit(self._write_metrics, losses, data_time, iter=self.iter)

    def _write_metrics(
        self, loss_dict: Mapping[str, Tensor], data_time: float, prefix: str = "", iter: int | None = None
    ) -> None:
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period == 0:
            self.write_metrics(loss_dict, data_time, iteration, prefix)

    @staticmethod
    def write_metrics(loss_dict: Mapping[str, Tensor], data_time: float, cur_iter: int, prefix: str = "") -> None:
        """Put the losses averaged over the ranks, their sum and the longest data time into the event storage.

        Args:
            loss_dict: scalar losses; the same names on every rank.
            data_time: seconds this rank waited for its batch.
            cur_iter: the iteration.
            prefix: put before "total_loss".

        Raises:
            FloatingPointError: the sum is not finite.
        """
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        losses = {name: loss.detach().cpu().item() for name, loss in loss_dict.items()}
        gathered = comm.gather((losses, data_time))
        if not comm.is_main_process():
            return
        storage.put_scalar("data_time", max(seconds for _, seconds in gathered), cur_iter=cur_iter)
        averaged: dict[str, Any] = {
            name: float(np.mean([rank_losses[name] for rank_losses, _ in gathered])) for name in losses
        }
        total = sum(averaged.values())
        if not np.isfinite(total):
            raise FloatingPointError(f"loss became infinite or NaN at iteration {cur_iter}: {averaged}")
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(averaged) > 1:
            storage.put_scalars(cur_iter=cur_iter, **averaged)

    def after_train(self) -> None:
        super().after_train()
        self.finish_metrics()

    def finish_metrics(self) -> None:
        """Wait until the losses given to the other thread are logged; raises what went wrong there."""
        if self._metric_thread is not None:
            self._metric_thread.shutdown(wait=True)
            self._metric_thread = None
        if self._metrics_pending is not None:
            pending, self._metrics_pending = self._metrics_pending, None
            pending.result()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


class AMPTrainer(SimpleTrainer):
    """SimpleTrainer with the forward pass under autocast; float16 gradients are scaled."""

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ):
        """
        Args:
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics:
                as `SimpleTrainer`.
            grad_scaler: default: a new one, which scales only for float16 on a GPU.
            precision: torch.float16 (GPU) or torch.bfloat16.
            log_grad_scaler: put the scale into the event storage.

        Raises:
            ValueError: float16 on a CPU.
        """
        super().__init__(
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward, async_write_metrics
        )
        self._device_type = next(model.parameters()).device.type
        if self._device_type == "cpu" and precision == torch.float16:
            raise ValueError("mixed precision in float16 needs a GPU; use bfloat16, or SOLVER.AMP.ENABLED False")
        scales = self._device_type == "cuda" and precision == torch.float16
        self.grad_scaler = grad_scaler or torch.amp.GradScaler(self._device_type, enabled=scales)
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def run_step(self) -> None:
        if not self.model.training:
            raise AssertionError("the model is in evaluation mode: a hook did not switch it back with model.train()")
        data, data_time = self._next_batch()
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        with torch.autocast(self._device_type, dtype=self.precision):
            losses = self._losses(data)
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self.grad_scaler.scale(self._total(losses)).backward()
        if self.log_grad_scaler:
            get_event_storage().put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
        self.after_backward()
        self._log_losses(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
