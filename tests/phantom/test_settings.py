import dataclasses

import pytest

from mammo_d2.phantom import PhantomConfig, PhantomConfigError


def test_sizes_in_millimetres():
    config = PhantomConfig(rows=800, cols=640, field_height_mm=240.0)
    assert config.spacing_mm == pytest.approx(0.3)
    assert config.field_width_mm == pytest.approx(192.0)


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("n_patients", 0, "at least 1"),
        ("n_patients", 2.5, "integer"),
        ("seed", -1, "non-negative"),
        ("rows", 64, "from 128 to 8192"),
        ("cols", "640", "from 128 to 8192"),
        ("field_height_mm", 20.0, "180 to 320"),
        ("share_malignant", 1.2, "from 0 to 1"),
        ("distractor_rate", float("nan"), "from 0 to 1"),
        ("distractor_rate_positive", -0.1, "from 0 to 1"),
        ("context_malignancy", 2, "from 0 to 1"),
        ("monochrome1_share", True, "from 0 to 1"),
        ("contrast_scale", 0.0, "above 0"),
        ("lesion_size_mm", (20.0, 10.0), "smallest <= largest"),
        ("lesion_size_mm", 12.0, "smallest <= largest"),
        ("positive_breasts_only", 1, "use true or false"),
        ("patient_prefix", "a b", "letters and digits"),
    ],
)
def test_error_names_field_value_and_remedy(field, value, remedy):
    with pytest.raises(PhantomConfigError) as error:
        PhantomConfig(**{field: value})
    assert f"'{field}'" in str(error.value)
    assert repr(value) in str(error.value)
    assert remedy in str(error.value)


def test_extreme_aspect_is_refused():
    with pytest.raises(PhantomConfigError, match=r"'rows' is 300; keep rows / cols"):
        PhantomConfig(rows=300, cols=640)


def test_shares_above_one_are_refused_together():
    with pytest.raises(PhantomConfigError, match=r"share_malignant.*sum to 1\.3"):
        PhantomConfig(share_malignant=0.6, share_benign=0.6, share_both=0.1, share_calcification_malignant=0,
                      share_calcification_benign=0)  # fmt: skip


def test_dict_round_trip_and_unknown_key():
    config = PhantomConfig(n_patients=7, lesion_size_mm=(8, 12))
    assert PhantomConfig.from_dict(config.to_dict() | {"lesion_size_mm": [8, 12]}) == config
    with pytest.raises(PhantomConfigError, match=r"unknown field 'n_patient' .*n_patients"):
        PhantomConfig.from_dict({"n_patient": 3})


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PhantomConfig().seed = 1
