import dataclasses
from collections import Counter

import numpy as np
import pytest

from mammo_d2.phantom import PhantomConfig, generate_patient
from mammo_d2.phantom.streams import assign_classes


def every_view(patients):
    return [view for views in patients for view in views]


def test_four_views_in_order(config, patients):
    for index, views in enumerate(patients):
        assert [(v.laterality, v.view) for v in views] == [("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")]
        assert {v.patient_id for v in views} == {f"PH{index + 1:05d}"}
        for view in views:
            assert view.image.shape == (config.rows, config.cols)
            assert view.image.dtype == np.uint16
            assert view.image.max() <= 4095


def test_chest_wall_left_for_left_breasts(patients):
    for view in every_view(patients):
        left, right = view.breast_mask[:, 0].sum(), view.breast_mask[:, -1].sum()
        assert (left > right) == (view.laterality == "L")
        assert min(left, right) == 0


def test_breast_is_bright_on_dark(patients):
    for view in every_view(patients):
        inside, outside = view.image[view.breast_mask], view.image[~view.breast_mask]
        assert np.median(inside) > 400
        assert np.median(outside) < 300
        assert (inside == 4095).mean() < 0.01


def test_findings_of_every_class(patients):
    expected = {
        "malignant": [("mass", "malignant")],
        "benign": [("mass", "benign")],
        "both": [("mass", "benign"), ("mass", "malignant")],
        "calcification_malignant": [("calcification", "malignant")],
        "calcification_benign": [("calcification", "benign")],
        "healthy": [],
    }
    for views in patients:
        lesions = {f.lesion_id: (f.kind, f.pathology) for v in views for f in v.findings}
        assert sorted(lesions.values()) == expected[views[0].patient.patient_class]
        for lesion_id in lesions:
            shown = [(v.laterality, v.view) for v in views for f in v.findings if f.lesion_id == lesion_id]
            assert [view for _, view in shown] == ["CC", "MLO"]
            assert len({side for side, _ in shown}) == 1


def test_labels_say_what_the_image_shows(patients):
    for view in every_view(patients):
        for label in ("benign", "malignant"):
            assert view.labels[label] == int(any(f.pathology == label for f in view.findings))


def test_boxes_are_the_extent_of_masks_inside_the_breast(patients):
    for view in every_view(patients):
        for finding in view.findings + view.distractors:
            rows, cols = np.nonzero(finding.mask)
            x, y, width, height = finding.bbox
            assert (cols.min(), cols.max()) == (x, x + width - 1)
            assert (rows.min(), rows.max()) == (y, y + height - 1)
            assert not (finding.mask & ~view.breast_mask).any()
            assert finding.mask[int(finding.centre[1]), int(finding.centre[0])]


def test_distractors_only_in_breasts_without_findings(patients):
    free = [view for view in every_view(patients) if view.distractors]
    assert len(free) > 20
    for views in patients:
        for side in "LR":
            breast = [v for v in views if v.laterality == side]
            if any(v.findings for v in breast):
                assert not any(v.distractors for v in breast)


def test_distractors_in_positive_images_on_request(config):
    wanted = dataclasses.replace(config, distractor_rate=0.0, distractor_rate_positive=1.0, distractor_second=1.0)
    for view in every_view(generate_patient(wanted, i) for i in range(6)):
        assert len(view.distractors) == (2 if view.findings else 0)


def test_the_class_mix_of_the_dual_branch_paper():
    """12 % normal, 80 % benign, 8 % malignant images, from shares of patients; each kept view is as it is otherwise."""
    settings = {
        "n_patients": 94, "seed": 3, "rows": 128, "cols": 128, "share_malignant": 0.0851, "share_benign": 0.8011,
        "share_both": 0.0, "share_calcification_malignant": 0.0, "share_calcification_benign": 0.05,
    }  # fmt: skip
    config = PhantomConfig(positive_breasts_only=True, **settings)
    classes = assign_classes(config)
    views = {"healthy": 4}
    images = Counter()
    for patient_class in classes:
        kind = "malignant" if "malignant" in patient_class else "benign" if "benign" in patient_class else "normal"
        images[kind] += views.get(patient_class, 2)
    total = sum(images.values())
    assert {name: round(100 * count / total) for name, count in images.items()} == {
        "normal": 12, "benign": 80, "malignant": 8,
    }  # fmt: skip
    index = classes.index("malignant")
    kept, everything = generate_patient(config, index), generate_patient(PhantomConfig(**settings), index)
    assert [view.labels["malignant"] for view in kept] == [1, 1]
    whole = {(view.laterality, view.view): view.image for view in everything}
    assert all((view.image == whole[view.laterality, view.view]).all() for view in kept)
    assert len(generate_patient(config, classes.index("healthy"))) == 4


def test_options_leave_the_tissue_alone(config, patients):
    """Without look-alikes the same patient has the same image wherever no look-alike was."""
    plain = generate_patient(dataclasses.replace(config, distractor_rate=0.0), 2)
    for with_distractors, without in zip(patients[2], plain, strict=True):
        same = with_distractors.image == without.image
        assert not without.distractors
        assert same.mean() > 0.5
        assert same.all() == (not with_distractors.distractors)


def test_same_seed_same_patient_other_seed_other_patient(config, patients):
    again = generate_patient(config, 4)
    other = generate_patient(dataclasses.replace(config, seed=4), 4)
    for first, second, third in zip(patients[4], again, other, strict=True):
        np.testing.assert_array_equal(first.image, second.image)
        assert (first.image != third.image).mean() > 0.1


def test_index_out_of_range(config):
    with pytest.raises(IndexError, match=r"patient index 20 is outside 0\.\.19; raise PhantomConfig\.n_patients"):
        generate_patient(config, 20)


def test_contrast_scale_changes_the_lesion_only(config, patients):
    index = next(i for i, views in enumerate(patients) if views[0].patient.patient_class == "malignant")
    faint = generate_patient(dataclasses.replace(config, contrast_scale=0.5), index)
    for strong, weak in zip(patients[index], faint, strict=True):
        for a, b in zip(strong.findings, weak.findings, strict=True):
            assert b.contrast == pytest.approx(0.5 * a.contrast)
            np.testing.assert_array_equal(a.mask, b.mask)
            assert strong.image[a.mask].mean() > weak.image[a.mask].mean()


@pytest.mark.parametrize(("rows", "cols"), [(416, 320), (1664, 1280)])
def test_other_sizes(config, rows, cols):
    views = generate_patient(dataclasses.replace(config, rows=rows, cols=cols, n_patients=1), 0)
    for view in views:
        assert view.image.shape == (rows, cols)
        # The breast keeps its real size: the area in square centimetres is a breast's.
        assert 60 < view.breast_mask.sum() * (240 / rows) ** 2 / 100 < 350


def test_context_decides_malignancy(config):
    base = dataclasses.replace(config, n_patients=12, share_malignant=0.5, share_benign=0.5, share_both=0.0,
                               share_calcification_malignant=0.0, share_calcification_benign=0.0)  # fmt: skip
    for share, decided_by in ((1.0, "surroundings"), (0.0, "look")):
        findings = [
            f
            for i in range(4)
            for v in generate_patient(dataclasses.replace(base, context_malignancy=share), i)
            for f in v.findings
        ]
        assert {f.decided_by for f in findings} == {decided_by}
        for finding in findings:
            assert finding.look == ("intermediate" if share else finding.pathology)


def test_monochrome1_and_film_shares_are_exact():
    config = PhantomConfig(n_patients=10, rows=160, cols=128, monochrome1_share=0.3, film_share=0.5)
    patients = [generate_patient(config, i)[0] for i in range(10)]
    assert sum(v.photometric == "MONOCHROME1" for v in patients) == 3
    assert sum(v.patient.film for v in patients) == 5


def test_pectoral_polygon_and_nipple_are_in_the_image_and_on_the_right_side(config, patients):
    for view in every_view(patients):
        assert (view.pectoral is not None) == (view.view == "MLO")
        x, y = view.nipple
        towards = x > 0.2 * config.cols if view.laterality == "L" else x < 0.8 * config.cols
        assert towards
        assert 0.2 * config.rows < y < 0.8 * config.rows
        if view.pectoral:
            points = np.array(view.pectoral)
            assert points.min() >= 0
            assert points[:, 0].max() <= config.cols
            corner = 0 if view.laterality == "L" else config.cols
            assert (points == [corner, 0]).all(1).any()
