"""Image scores of the toy data set by hand, and their file."""

import json

import pytest
import torch

from mammo_d2.evaluation.evaluators.image_evaluator import ImageScoreEvaluator
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from tests.evaluation.evaluators.toy import OUTPUTS, RECORDS, TOY, run


def test_image_scores(tmp_path):
    outputs = [{"image_scores": {"malignant": torch.tensor(s)}} for s in (0.75, 0.5, 0.25, 0.125, 0.875, 0.625)]
    results = run(ImageScoreEvaluator(TOY, tmp_path, plan=BootstrapPlan(20)), outputs)["image"]
    # Image 5 is unknown: positives 0.75 and 0.625 beat all others; the mean of patient a is 0.625.
    assert results["malignant/auc"] == 1
    assert results["malignant/patient_auc"] == 1
    assert results["malignant/num_unknown"] == 1
    assert "any/auc" not in results
    assert json.loads((tmp_path / "image.json").read_text())["intervals"]["malignant/auc"] == [1, 1]
    written = json.loads((tmp_path / "image_scores.json").read_text())
    assert [entry["scores"]["malignant"] for entry in written] == [0.75, 0.5, 0.25, 0.125, 0.875, 0.625]
    assert [entry["image_id"] for entry in written] == [one["image_id"] for one in RECORDS]
    with pytest.raises(ValueError, match='"image" needs image_scores of malignant; the model gives none'):
        run(ImageScoreEvaluator(TOY), OUTPUTS)
    with pytest.raises(ValueError, match="image 1 is not finite"):
        run(ImageScoreEvaluator(TOY), [{"image_scores": {"malignant": float("nan")}}], RECORDS[:1])
