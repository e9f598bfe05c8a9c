"""The training losses on held-out images, without touching the model."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from mammo_d2.framework import EventStorage, HookBase, comm, get_event_storage


class ValidationLoss(HookBase):
    """Log ``validation/<loss name>`` and ``validation/total_loss``, means over batches, every ``period`` iterations.

    The model stays in training mode, because only then it returns losses, but its batch normalisation layers use and
    keep their running statistics. Random sampling inside the model follows the step's seed.
    """

    def __init__(self, period: int, datasets: Sequence[str], build_loader: Callable[[str], Iterable[list[dict]]]):
        """
        Args:
            period: in iterations.
            datasets: names of the held-out data sets.
            build_loader: for a name, a loader that passes once over this process's share of the images, with their
                ``instances`` and without augmentation.
        """
        self.period, self.datasets, self.build_loader = period, datasets, build_loader
        self._loaders: list[Iterable[list[dict]]] | None = None

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        model: nn.Module = self.trainer.model  # type: ignore[attr-defined]
        if self.period > 0 and (iteration % self.period == 0 or iteration == self.trainer.max_iter):
            losses = self.measure(model)
            storage = get_event_storage()
            for name, value in losses.items():
                storage.put_scalar(f"validation/{name}", value, smoothing_hint=False)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Mean of each loss over the batches of all processes; the model is left as it was."""
        if self._loaders is None:
            self._loaders = [self.build_loader(name) for name in self.datasets]
        modes = {module: module.training for module in model.modules()}
        model.train()
        for module in modes:
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        sums: dict[str, float] = defaultdict(float)
        batches = 0
        with torch.no_grad(), EventStorage():  # what the heads log here does not belong to the training
            for batch in itertools.chain.from_iterable(self._loaders):
                for name, value in model(batch).items():
                    sums[name] += float(value)
                batches += 1
        for module, mode in modes.items():
            module.training = mode
        everywhere = comm.all_gather((dict(sums), batches))
        total = sum(count for _, count in everywhere)
        names = sorted({name for part, _ in everywhere for name in part})
        means = {name: sum(part.get(name, 0.0) for part, _ in everywhere) / total for name in names}
        return {**means, "total_loss": sum(means.values())}
