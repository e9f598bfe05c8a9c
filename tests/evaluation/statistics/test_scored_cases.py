"""Cases from files: levels, truth, strata, and what two systems must share."""

import numpy as np
import pytest

from mammo_d2.evaluation.files.coco_files import load_ground_truth
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.statistics.scored_cases import CaseRule, check_same_cases, load_system
from tests.evaluation.statistics.study_files import PATIENTS, POSITIVE


def test_patients(study_folder, truth, systems):
    old, _ = systems
    assert len(old.cases.truth) == PATIENTS
    assert old.cases.truth.sum() == POSITIVE
    # The boxes' highest score is the file of scores.
    scored = load_system(truth, "old", CaseRule(), scores=study_folder / "old.csv")
    np.testing.assert_allclose(scored.cases.scores, old.cases.scores, atol=1e-6)
    assert scored.detections is None


def test_levels_and_mean(study_folder, truth):
    images = load_system(truth, "old", CaseRule("image"), scores=study_folder / "old.csv").cases
    assert (len(images.truth), images.truth.sum()) == (2 * PATIENTS, POSITIVE)
    mean = load_system(truth, "old", CaseRule("patient", "mean"), scores=study_folder / "old.csv").cases
    np.testing.assert_allclose(mean.scores, images.scores.reshape(-1, 2).mean(axis=1))


def test_resampling(resampling):
    assert resampling.patients == PATIENTS
    assert resampling.clusters == POSITIVE
    assert resampling.strata.sum() == POSITIVE


def test_errors(study_folder, truth, tmp_path, systems):
    with pytest.raises(ValueError, match="neither detections nor image scores"):
        load_system(truth, "x", CaseRule())
    (tmp_path / "few.csv").write_text("image_id,malignant\n20,0.5\n22,0.25\n")
    with pytest.raises(ResultsError, match="patients: no positive case"):
        load_system(truth, "few", CaseRule(), scores=tmp_path / "few.csv")
    rows = (study_folder / "old.csv").read_text().splitlines()
    (tmp_path / "less.csv").write_text("\n".join(rows[:-2]))
    less = load_system(truth, "less", CaseRule(), scores=tmp_path / "less.csv")
    with pytest.raises(ResultsError, match="old scores 30 cases and less 29"):
        check_same_cases([systems[0], less])
    assert load_ground_truth(study_folder / "gt.json").images.classes == ("malignant",)
