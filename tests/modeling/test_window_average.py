"""The mean over random windows of an image."""

import pytest
import torch

from mammo_d2.data.breast.window_transform import WindowTransform
from mammo_d2.engine.evaluator_check import check_preprocessing
from tests.modeling.gmic_models import gmic_cfg, gmic_input, gmic_model


def window(seed: int, shift: tuple[int, int]) -> dict:
    transform = WindowTransform((100, 80), (10, 5, 60, 90), False, shift, (96, 64))
    return {"image": gmic_input(seed=seed)["image"], "network_transform": transform}


def test_scores_and_maps_are_means_and_boxes_are_those_of_the_mean_map():
    model = gmic_model().eval()
    record = gmic_input(seed=1) | {"height": 100, "width": 80}
    windows = [window(2, (0, 0)), window(3, (2, 4)), window(4, (-1, 6))]
    with torch.no_grad():
        parts = [model([record | each])[0] for each in windows]
        averaged, plain = model([record | {"windows": windows}, record])
    for name, score in averaged["image_scores"].items():
        assert score == pytest.approx(sum(part["image_scores"][name] for part in parts) / 3)
        local = sum(part["module_scores"]["local"][name] for part in parts) / 3
        assert averaged["module_scores"]["local"][name] == pytest.approx(local)
    torch.testing.assert_close(averaged["saliency"], sum(part["saliency"] for part in parts) / 3)
    assert averaged["patches"].tolist() == [box for part in parts for box in part["patches"].tolist()]
    assert averaged["attention"].sum().item() == pytest.approx(1)
    best = averaged["instances"][0]
    x0, y0, x1, y1 = best.pred_boxes.tensor[0].tolist()
    assert best.image_size == (100, 80)
    saliency = averaged["saliency"][int(best.pred_classes[0])]
    y, x = (saliency == saliency.max()).nonzero()[0].tolist()
    cell_y, cell_x = 100 / saliency.shape[0], 80 / saliency.shape[1]
    assert y0 - 1e-3 <= y * cell_y <= y1
    assert x0 - 1e-3 <= x * cell_x <= x1
    with torch.no_grad():
        assert plain["image_scores"] == model([record])[0]["image_scores"]


def test_models_that_do_not_average_are_refused():
    cfg = gmic_cfg("TEST.WINDOWS.COUNT", 10, "TEST.WINDOWS.NOISE", 0.1)
    check_preprocessing(cfg)
    cfg.MODEL.META_ARCHITECTURE = "WeaklySupervisedRCNN"
    with pytest.raises(ValueError, match="COUNT is 10, but WeaklySupervisedRCNN does not average windows"):
        check_preprocessing(cfg)
