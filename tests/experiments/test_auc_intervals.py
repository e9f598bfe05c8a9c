import json

import numpy as np
import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.experiments.auc_intervals import mean_auc_interval, read_image_cases, read_lesion_cases


def write_cases(path, truth, scores, patient):
    path.write_text(json.dumps({"cases": {"truth": truth, "scores": scores, "patient": patient}}))
    return read_lesion_cases(path)


def test_interval_of_the_mean_auc_resamples_patients(tmp_path):
    # Patients 0 and 1 have two malignant lesions each, patients 2 and 3 two benign ones. The first run ranks one
    # patient's malignant lesions below everything: the AUC of a draw is the share of patient 0 among the malignant.
    truth, patient = [1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 2, 2, 3, 3]
    first = write_cases(tmp_path / "a.json", truth, [0.9, 0.8, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], patient)
    second = write_cases(tmp_path / "b.json", truth, [0.9, 0.8, 0.7, 0.7, 0.3, 0.4, 0.5, 0.6], patient)
    plan = BootstrapPlan(replicates=400, confidence=0.4)
    # With two patients the share is 0, 1/2 or 1, with probability 1/4, 1/2, 1/4: the middle 40 % is 1/2.
    middle = mean_auc_interval([first], plan)
    assert (middle.low, middle.high) == (0.5, 0.5)
    wide = mean_auc_interval([first], BootstrapPlan(replicates=400, confidence=0.9))
    assert (wide.low, wide.high) == (0.0, 1.0)
    # The second run's AUC is 1 in every draw; the mean of both is (share + 1) / 2.
    both = mean_auc_interval([first, second], BootstrapPlan(replicates=400, confidence=0.9))
    assert (both.low, both.high) == (0.5, 1.0)
    other = write_cases(tmp_path / "c.json", [1, 1, 1, 0, 0, 0, 0, 0], np.linspace(0, 1, 8).tolist(), patient)
    with pytest.raises(ValueError, match=r"c\.json is about other cases than .*a\.json"):
        mean_auc_interval([first, other], plan)


def test_image_cases_have_the_truth_of_their_data_set(tmp_path):
    """Two patients; the views of a breast are averaged."""
    builder = CocoBuilder()
    for patient, malignant in (("p", 1), ("q", 0)):
        for view in ("CC", "MLO"):
            (tmp_path / "cases" / "images").mkdir(parents=True, exist_ok=True)
            (tmp_path / "cases" / "images" / f"{patient}{view}.png").touch()
            builder.add_image(
                f"{patient}{view}.png", 40, 30, patient_id=patient, exam_id="1", laterality="L", view=view,
                labels={"benign": 0, "malignant": malignant},
            )  # fmt: skip
    builder.write(tmp_path / "cases" / "annotations" / "test.json")
    path = tmp_path / "inference" / "cases_test" / "image_scores.json"
    path.parent.mkdir(parents=True)
    scores = [{"image_id": k + 1, "scores": {"malignant": p}} for k, p in enumerate((0.5, 0.75, 0.25, 0.0))]
    path.write_text(json.dumps(scores))
    settings = ["DATASETS.ROOT", str(tmp_path), "DATASETS.CATEGORIES", "['malignant']", "TEST.IMAGE.AGGREGATE", "mean"]
    cases = read_image_cases(path, load_config("", settings), "breast")
    assert cases.truth.tolist() == [1, 0]
    assert cases.scores.tolist() == [0.625, 0.125]
    assert len(set(cases.patient.tolist())) == 2
