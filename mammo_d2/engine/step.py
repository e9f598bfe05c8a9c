"""One optimizer step: accumulation, mixed precision, gradient clipping and the guard against non-finite losses."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mammo_d2.engine.optimizer import clip_gradients
from mammo_d2.framework import CfgNode, SimpleTrainer, comm

AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class NonFiniteLossError(FloatingPointError):
    """A loss became NaN or infinite; the message names the images and the file that reproduces the step."""


class StepTrainer(SimpleTrainer):
    """SimpleTrainer whose step averages the gradients of ``SOLVER.ACCUMULATE`` mini-batches.

    With ``SOLVER.AMP.ENABLED`` the forward pass runs under autocast in ``SOLVER.AMP.DTYPE``; float16 gradients are
    scaled (GPU only), bfloat16 ones need no scaling. Parameters and optimizer state stay float32.

    Attributes:
        step_begun: a forward pass of the last step has begun; until then the step has changed nothing.
    """

    step_begun = False

    def __init__(self, cfg: CfgNode, model: nn.Module, data_loader, optimizer: torch.optim.Optimizer):
        """
        Raises:
            ValueError: an unknown AMP type, float16 on a device other than a GPU, or fewer than one mini-batch.
        """
        super().__init__(model, data_loader, optimizer)
        self.cfg = cfg
        self.accumulate = cfg.SOLVER.ACCUMULATE
        if self.accumulate < 1:
            raise ValueError(f"SOLVER.ACCUMULATE is {self.accumulate}; it must be at least 1")
        self.device_type = torch.device(cfg.MODEL.DEVICE).type
        self.amp_dtype = amp_dtype(cfg)
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=self.amp_dtype == torch.float16)

    def run_step(self) -> None:
        if not self.model.training:
            raise RuntimeError("the model is in evaluation mode: a hook forgot to call model.train()")
        self.step_begun = False
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        data_time = 0.0
        for part in range(self.accumulate):
            start = time.perf_counter()
            data = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            self.step_begun = True
            with self._no_sync(part + 1 < self.accumulate):
                losses = self._forward(data)
                self._check_finite(losses, data)
                self._backward(sum(losses.values()) / self.accumulate)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value.detach() / self.accumulate
        self._write_metrics(totals, data_time)
        self._update()

    def _backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def _update(self) -> None:
        self.scaler.unscale_(self.optimizer)
        clip_gradients(self.cfg, self.optimizer)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _forward(self, data: list[dict]) -> dict[str, Tensor]:
        try:
            with torch.autocast(self.device_type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
                return self.model(data)
        except FloatingPointError as error:  # proposals that are not finite, before any loss
            raise self._explained(data, {}, str(error)) from error

    def _no_sync(self, more_to_come: bool):
        """Gradients are reduced over ranks once a step, with the last mini-batch."""
        if more_to_come and isinstance(self.model, nn.parallel.DistributedDataParallel):
            return self.model.no_sync()
        return contextlib.nullcontext()

    def _check_finite(self, losses: dict[str, Tensor], data: list[dict]) -> None:
        values = torch.stack([value.detach().float() for value in losses.values()])
        finite = torch.isfinite(values).all()
        everywhere = finite.clone().to(torch.int32)
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(everywhere, op=torch.distributed.ReduceOp.MIN)
        if bool(everywhere):
            return
        if bool(finite):
            raise NonFiniteLossError(f"a loss became non-finite on another rank at iteration {self.iter}")
        numbers = {name: float(value.detach()) for name, value in losses.items()}
        raise self._explained(data, numbers, f"losses {numbers}")

    def _explained(self, data: list[dict], losses: dict[str, float], what: str) -> NonFiniteLossError:
        """Write inputs and weights to a file; the error that names it and the images."""
        dump = Path(self.cfg.OUTPUT_DIR) / f"nonfinite_iter{self.iter:07d}_rank{comm.get_rank()}.pth"
        names = [f"{record.get('image_id')}: {record.get('file_name')}" for record in data]
        model = self.model.module if isinstance(self.model, nn.parallel.DistributedDataParallel) else self.model
        state = {
            "iteration": self.iter,
            "losses": losses,
            "images": names,
            "inputs": [record.get("image", record) for record in data],
            "model": model.state_dict(),
        }
        torch.save(state, dump)
        return NonFiniteLossError(
            f"loss is not finite at iteration {self.iter} ({what}); images in the batch: {'; '.join(names)}. "
            f"Inputs and weights are in {dump}. Lower SOLVER.BASE_LR, lengthen SOLVER.WARMUP_ITERS or set "
            "SOLVER.CLIP_GRADIENTS.ENABLED True."
        )

    def state_dict(self) -> dict:
        return {**super().state_dict(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.scaler.load_state_dict(state_dict.get("scaler", {}))


def amp_dtype(cfg: CfgNode) -> torch.dtype | None:
    """The autocast type of the config, None for plain float32.

    Raises:
        ValueError: an unknown type, or float16 on a device that needs bfloat16.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    name = cfg.SOLVER.AMP.DTYPE
    if name not in AMP_DTYPES:
        raise ValueError(f"SOLVER.AMP.DTYPE is {name!r}; use one of {', '.join(AMP_DTYPES)}")
    if name == "float16" and torch.device(cfg.MODEL.DEVICE).type == "cpu":
        raise ValueError("SOLVER.AMP.DTYPE float16 needs a GPU; use bfloat16 with MODEL.DEVICE cpu")
    return AMP_DTYPES[name]
