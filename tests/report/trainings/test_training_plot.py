"""Which points of the training log are drawn."""

import math

from mammo_d2.report.trainings.training_plot import (
    _series,
    compared_names,
    plot_compared,
    plot_evaluations,
    plot_losses,
)

PNG = b"\x89PNG\r\n\x1a\n"
LOG = [
    {"iteration": 19, "total_loss": 2.0, "loss_cls": 1.5, "lr": 0.1},
    {"iteration": 29, "coco/AP50": 0.25},
    {"iteration": 39, "total_loss": math.nan, "loss_cls": 1.0, "lr": 0.1, "coco/AP50": 0.5},
]


def test_series_has_the_finite_values_only():
    assert _series(LOG, "total_loss") == ([19], [2.0])
    assert _series(LOG, "loss_cls") == ([19, 39], [1.5, 1.0])
    assert _series(LOG, "nothing") == ([], [])


def test_plots_need_something_to_draw():
    assert plot_losses([]) is None
    assert plot_losses([{"iteration": 19, "total_loss": math.inf}]) is None
    assert plot_evaluations(LOG[:2]) is None  # a single evaluation is no course
    assert plot_losses(LOG).startswith(PNG)
    assert plot_evaluations(LOG).startswith(PNG)
    lesions = [{"iteration": i, "lesion/auc": 0.5} for i in (9, 19)]
    assert plot_evaluations(lesions).startswith(PNG)


def test_panels_of_a_comparison_are_the_finite_losses_then_the_metrics():
    other = [{"iteration": 19, "loss_box": 1.0, "validation/total_loss": 0.5, "time": 1.0, "loss_none": math.nan}]
    names = compared_names({"a": LOG, "b": other})
    assert names == ["total_loss", "loss_box", "loss_cls", "validation/total_loss", "coco/AP50"]
    assert plot_compared({"a": LOG, "b": other}).startswith(PNG)
    assert plot_compared({"a": []}) is None
