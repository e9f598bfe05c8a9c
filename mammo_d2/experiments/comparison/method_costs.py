"""What the rows of a comparison cost to train and to predict, from the files that their runs left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mammo_d2.engine.cost import PREDICTION_COST_FILE, TRAINING_COST_FILE, read_cost
from mammo_d2.experiments.cells import Cell


@dataclass(frozen=True)
class RowCost:
    """Means over the cells of a row, and the largest memory; NaN where it was not measured.

    Attributes:
        minutes: of a training, all its own stages together; without the rows that it starts from, and without what
            several rows share.
        training_mb: memory.
        seconds: in the model, per image.
        prediction_mb: memory.
        on_gpu: the memory is that of the GPU.
    """

    minutes: float
    training_mb: float
    seconds: float
    prediction_mb: float
    on_gpu: bool = False


#: Headings of ``cells_of``.
COST_COLUMNS = ("training, minutes", "training, GB", "prediction, s/image", "prediction, GB")


def row_cost(cells: Sequence[Cell]) -> RowCost:
    """The cost of a row.

    Args:
        cells: of the row, finished.
    """
    minutes, seconds = [], []
    memory: dict[str, list[float]] = {"training": [], "prediction": []}
    on_gpu = False
    for cell in cells:
        stages = [read_cost(cell.folder / stage.folder / TRAINING_COST_FILE) for stage in cell.job.stages()]
        if any(stages):  # a stage that several rows share is another run's
            minutes.append(sum(stage.get("seconds", 0.0) for stage in stages) / 60)
        predicted = read_cost(cell.finished_metrics().parent / PREDICTION_COST_FILE)
        if predicted.get("images"):
            seconds.append(predicted["seconds"] / predicted["images"])
        for name, entries in (("training", stages), ("prediction", [predicted])):
            for entry in filter(None, entries):
                on_gpu = on_gpu or entry.get("gpu_memory_mb") is not None
                memory[name].append(entry.get("gpu_memory_mb") or entry.get("memory_mb") or math.nan)
    return RowCost(
        _mean(minutes),
        max(memory["training"], default=math.nan),
        _mean(seconds),
        max(memory["prediction"], default=math.nan),
        on_gpu,
    )


def cells_of(cost: RowCost) -> list[str]:
    """The cells of a table, see ``COST_COLUMNS``; empty where it was not measured."""
    texts = (
        f"{cost.minutes:.1f}",
        f"{cost.training_mb / 1024:.2f}",
        f"{cost.seconds:.3f}",
        f"{cost.prediction_mb / 1024:.2f}",
    )
    return ["" if text == "nan" else text for text in texts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
