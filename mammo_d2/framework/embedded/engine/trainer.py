"""The training loop: hooks around a step, and the plain step."""

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.embedded.utils.events import EventStorage, get_event_storage

logger = logging.getLogger(__name__)


class HookBase:
    """Base class of hooks. The trainer calls them in the order of registration.

    before_train, then before_step and after_step around each iteration; at the end, also after an exception,
    after_train. A stateful hook has ``state_dict`` and ``load_state_dict``; its state is part of the checkpoint under
    the name of its class.
    """

    trainer: "TrainerBase" = None  # type: ignore[assignment]  # a weak reference, set when the hook is registered

    def before_train(self) -> None:
        """Before the first iteration."""

    def after_train(self) -> None:
        """After the last iteration; trainer.iter == trainer.max_iter tells that training was completed."""

    def before_step(self) -> None:
        """Before each iteration; should take no time worth measuring."""

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
        storage: the event storage, open during ``train``.
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
        """Restore what ``state_dict`` gave. A state without its hook is reported and left out."""
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

    def __init__(self, model: nn.Module, data_loader: Iterable[Any], optimizer: Optimizer):
        """
        Args:
            model: batch -> dict of scalar losses (or one scalar loss); put into training mode here.
            data_loader: endless iterable of batches.
            optimizer: the optimizer.
        """
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self._data_loader_iter_obj: Iterator[Any] | None = None

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
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        losses = self.model(data)
        if isinstance(losses, Tensor):
            losses = {"total_loss": losses}
        self.optimizer.zero_grad()
        total: Any = sum(losses.values())
        total.backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()

    def _write_metrics(self, loss_dict: Mapping[str, Tensor], data_time: float) -> None:
        """Put the losses averaged over the ranks, their sum and the longest data time into the event storage.

        Args:
            loss_dict: scalar losses; the same names on every rank.
            data_time: seconds this rank waited for its batch.

        Raises:
            FloatingPointError: the sum is not finite.
        """
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=self.iter)
        losses = {name: loss.detach().cpu().item() for name, loss in loss_dict.items()}
        gathered = comm.gather((losses, data_time))
        if not comm.is_main_process():
            return
        storage.put_scalar("data_time", max(seconds for _, seconds in gathered), cur_iter=self.iter)
        averaged: dict[str, Any] = {
            name: float(np.mean([rank_losses[name] for rank_losses, _ in gathered])) for name in losses
        }
        total = sum(averaged.values())
        if not np.isfinite(total):
            raise FloatingPointError(f"loss became infinite or NaN at iteration {self.iter}: {averaged}")
        storage.put_scalar("total_loss", total, cur_iter=self.iter)
        if len(averaged) > 1:
            storage.put_scalars(cur_iter=self.iter, **averaged)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])
