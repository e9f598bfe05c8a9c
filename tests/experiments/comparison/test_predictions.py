"""Predictions read back, and the folds of a cross-validation joined."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.experiments.comparison.predictions import (
    check_same_images,
    has_predictions,
    join_folds,
    part_of_fold,
    read_predictions,
)
from tests.experiments.comparison.evaluated import config, evaluate, write_dataset, write_lesion_scores


def read(root, folder, patients, start, seed):
    """The predictions on a data set of these patients."""
    annotations = write_dataset(root, patients, start)
    cfg = config(root)
    evaluate(cfg, folder, seed)
    write_lesion_scores(folder / "lesion_scores.json", annotations, seed)
    return read_predictions(folder, annotations, cfg)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two folds, of 12 and 6 patients."""
    folders = [tmp_path_factory.mktemp(name) for name in ("a", "b")]
    return [
        read(folders[0], folders[0] / "out", 12, 0, seed=1),
        read(folders[1], folders[1] / "out", 6, 12, seed=2),
    ]


def test_joined_folds_keep_images_patients_and_boxes_together(parts):
    joined = join_folds(parts)
    assert (len(joined.images), joined.patients) == (36, 18)
    assert joined.images.patient.tolist() == np.repeat(np.arange(18), 2).tolist()
    assert joined.images.breast.tolist() == joined.images.patient.tolist()
    assert np.bincount(joined.fold).tolist() == [24, 12]
    first, second = parts
    assert len(joined.boxes) == len(first.boxes) + len(second.boxes)
    tail = joined.boxes.image >= 24
    assert (joined.boxes.image[tail] - 24).tolist() == second.boxes.image.tolist()
    assert joined.boxes.scores[tail].tolist() == second.boxes.scores.tolist()
    assert (joined.lesions.image[joined.lesions.image >= 24] - 24).tolist() == second.lesions.image.tolist()
    assert joined.image_scores[24:].tolist() == second.image_scores.tolist()
    assert np.array_equal(joined.saliency["malignant"][:, 24:], second.saliency["malignant"], equal_nan=True)
    cases = joined.lesion_cases
    assert len(cases.truth) == len(first.lesion_cases.truth) + len(second.lesion_cases.truth)
    assert cases.patient[-1] == second.lesion_cases.patient[-1] + 12


def test_the_part_of_a_fold_is_what_was_joined(parts):
    joined = join_folds(parts)
    for fold, (part, first) in enumerate(zip(parts, (0, 12), strict=True)):
        mine = part_of_fold(joined, fold)
        assert mine.images.ids == part.images.ids
        assert mine.images.patient.tolist() == (part.images.patient + first).tolist()
        assert mine.boxes.image.tolist() == part.boxes.image.tolist()
        assert mine.boxes.scores.tolist() == part.boxes.scores.tolist()
        assert mine.lesions.image.tolist() == part.lesions.image.tolist()
        assert mine.image_scores.tolist() == part.image_scores.tolist()
        assert mine.lesion_cases.scores.tolist() == part.lesion_cases.scores.tolist()
        assert mine.lesion_cases.patient.tolist() == (part.lesion_cases.patient + first).tolist()


def test_patients_are_drawn_within_their_fold_and_truth(parts):
    strata = join_folds(parts).strata()
    # Fold 0 has the patients 0 to 11; those divisible by 3 or 4 show a class.
    assert strata.tolist() == [3 * (p > 11) + (p % 3 == 0 or p % 4 == 0) for p in range(18)]


def test_what_a_fold_lacks_is_left_out(parts, tmp_path):
    root = tmp_path / "c"
    annotations = write_dataset(root, 3, 20)
    cfg = config(root, "TEST.EVALUATORS", "['image']")
    evaluate(cfg, tmp_path / "out", seed=3)
    joined = join_folds([parts[0], read_predictions(tmp_path / "out", annotations, cfg)])
    assert joined.boxes is None
    assert joined.lesion_cases is None
    assert joined.saliency == {}
    assert joined.image_scores.shape == (30, 2)


def test_rows_about_other_images_are_an_error(parts):
    with pytest.raises(ResultsError, match=r"b\d*/out is about other images than .*a\d*/out"):
        check_same_images(parts)


def test_files_of_other_images_are_named(parts, tmp_path):
    annotations = write_dataset(tmp_path, 3)
    (tmp_path / "saliency.json").write_text(json.dumps({"cases": {"malignant": {"image_id": [77]}}}))
    with pytest.raises(ResultsError, match=r"saliency\.json: image_id 77 is not in .*test\.json"):
        read_predictions(tmp_path, annotations, config(tmp_path))
    (tmp_path / "saliency.json").unlink()
    (tmp_path / "lesion_scores.json").write_text(json.dumps([{"image_id": 77}]))
    with pytest.raises(ResultsError, match=r"lesion_scores\.json: entry 0: image_id 77 is not in"):
        read_predictions(tmp_path, annotations, config(tmp_path))


def test_a_folder_without_predictions(tmp_path):
    assert not has_predictions(tmp_path)
    (tmp_path / "image_scores.json").touch()
    assert has_predictions(tmp_path)
