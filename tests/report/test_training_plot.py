"""Which points of the training log are drawn."""

import math

from mammo_d2.report.training_plot import _series, plot_evaluations, plot_losses

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
