import pytest

from mammo_d2.data.prepare.options import PrepareOptions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fractions": (("train", 0.5), ("test", 0.4))}, r"must sum to 1, not 0\.9"),
        ({"fractions": (("train", 0.5), ("dev", 0.5))}, "must be among train, val, test"),
        ({"workers": -1}, "workers -1 and limit 0 must not be negative"),
        ({"val_from_train": 1.0}, r"val_from_train 1\.0"),
    ],
)
def test_bad_options_of_a_run(changes, message):
    with pytest.raises(ValueError, match=message):
        PrepareOptions(**changes)
