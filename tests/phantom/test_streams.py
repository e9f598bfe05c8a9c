import numpy as np

from mammo_d2.phantom import PhantomConfig
from mammo_d2.phantom.streams import assign_classes, assign_share, class_counts, stream


def make(**settings) -> PhantomConfig:
    shares = {"share_malignant": 0.35, "share_benign": 0.15, "share_both": 0.05,
              "share_calcification_malignant": 0.0, "share_calcification_benign": 0.0}  # fmt: skip
    return PhantomConfig(**{**shares, **settings})


def test_counts_are_exact():
    assert class_counts(make(n_patients=40)) == {
        "malignant": 14, "benign": 6, "both": 2, "calcification_malignant": 0, "calcification_benign": 0, "healthy": 18,
    }  # fmt: skip


def test_counts_by_largest_remainder():
    # 10 x (.35, .15, .05, .45) = 3.5, 1.5, 0.5, 4.5: two of the four equal remainders are rounded up, the first two.
    counts = class_counts(make(n_patients=10))
    assert sum(counts.values()) == 10
    assert (counts["malignant"], counts["benign"], counts["both"], counts["healthy"]) == (4, 2, 0, 4)


def test_assignment_has_the_counts_and_depends_on_the_seed():
    config = make(n_patients=40)
    classes = assign_classes(config)
    assert {name: classes.count(name) for name in set(classes)} == {
        name: count for name, count in class_counts(config).items() if count
    }
    assert classes == assign_classes(make(n_patients=40))
    assert classes != assign_classes(make(n_patients=40, seed=1))


def test_share_is_exact():
    config = make(n_patients=30)
    assert assign_share(config, 0.2, 2).sum() == 6
    assert assign_share(config, 0.0, 2).sum() == 0
    assert assign_share(config, 1.0, 2).all()
    assert (assign_share(config, 0.5, 2) != assign_share(config, 0.5, 3)).any()


def test_streams_are_independent_and_repeatable():
    config = make()
    first = stream(config, 4, "tissue", 0, 1).normal(size=3)
    np.testing.assert_array_equal(first, stream(config, 4, "tissue", 0, 1).normal(size=3))
    for index, purpose, side in ((5, "tissue", 0), (4, "noise", 0), (4, "tissue", 1)):
        assert not np.allclose(first, stream(config, index, purpose, side, 1).normal(size=3))
