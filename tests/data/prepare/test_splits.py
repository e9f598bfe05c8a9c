import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.core.image_truth import stratum_of
from mammo_d2.data.prepare.splits import find_duplicates, find_leaks, group_images, make_folds, split_groups

PARTS = {"train": 0.6, "val": 0.2, "test": 0.2}


def test_stratum_is_the_worst_label():
    assert stratum_of({"benign": 1, "malignant": 1}) == "malignant"
    assert stratum_of({"benign": 1, "malignant": 0}) == "benign"
    assert stratum_of({"benign": None, "malignant": None}) == "normal"
    assert stratum_of(None) == "normal"


def test_shared_images_join_patients():
    # p1 and p3 share image b; the unknown hashes join nobody.
    assert group_images(["p1", "p1", "p2", "p3", "p3", "p4"], ["a", "b", None, "b", "c", None]) == [0, 0, 1, 0, 0, 2]


def test_counts_by_hand():
    # Ten patients with two images each: 4 malignant, 1 benign, 5 normal.
    groups = [f"p{i}" for i in range(10) for _ in range(2)]
    strata = [s for i in range(10) for s in ["normal", "malignant" if i < 4 else "benign" if i == 4 else "normal"]]
    splits = split_groups(groups, strata, PARTS, seed=3)
    assert find_leaks(groups, splits) == {}
    of = dict(zip(groups, splits, strict=True))
    per_split = {s: [g for g in of if of[g] == s] for s in PARTS}
    assert {s: len(g) for s, g in per_split.items()} == {"train": 6, "val": 2, "test": 2}
    malignant = [of[f"p{i}"] for i in range(4)]
    # 4 x (0.6, 0.2, 0.2) = 2.4, 0.8, 0.8: the two left over go where most is owed.
    assert sorted(malignant) == ["test", "train", "train", "val"]


def test_same_seed_same_split_other_seed_other():
    groups = [f"p{i}" for i in range(40)]
    strata = ["normal"] * 40
    first = split_groups(groups, strata, PARTS, 0)
    assert split_groups(groups, strata, PARTS, 0) == first
    assert split_groups(groups, strata, PARTS, 1) != first


def test_split_does_not_depend_on_the_order_of_images():
    groups = [f"p{i}" for i in range(20)]
    strata = ["malignant" if i % 3 == 0 else "normal" for i in range(20)]
    forward = dict(zip(groups, split_groups(groups, strata, PARTS, 0), strict=True))
    backward = dict(zip(groups[::-1], split_groups(groups[::-1], strata[::-1], PARTS, 0), strict=True))
    assert forward == backward


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["malignant", "benign", "normal"])), min_size=1, max_size=60
    ),
    st.integers(0, 5),
)
def test_every_image_gets_a_split_and_no_group_two(images, seed):
    groups, strata = [g for g, _ in images], [s for _, s in images]
    splits = split_groups(groups, strata, PARTS, seed)
    assert set(splits) <= set(PARTS)
    assert find_leaks(groups, splits) == {}
    counts = {s: len({g for g, t in zip(groups, splits, strict=True) if t == s}) for s in PARTS}
    for name, part in PARTS.items():
        assert abs(counts[name] - part * len(set(groups))) < 2


def test_a_part_of_zero_stays_empty():
    splits = split_groups([f"p{i}" for i in range(9)], ["normal"] * 9, {"train": 0.5, "val": 0.0, "test": 0.5}, 0)
    assert "val" not in splits


@pytest.mark.parametrize("parts", [{"train": 0.5, "test": 0.4}, {"train": 1.2, "test": -0.2}])
def test_bad_fractions(parts):
    with pytest.raises(ValueError, match="must be positive and sum to 1"):
        split_groups(["p"], ["normal"], parts, 0)


def test_folds_are_group_wise_and_stratified():
    groups = [f"p{i}" for i in range(20) for _ in range(2)]
    strata = ["malignant" if i < 10 else "normal" for i in range(20) for _ in range(2)]
    folds = make_folds(groups, strata, 5, seed=0)
    assert sorted(set(folds)) == [0, 1, 2, 3, 4]
    assert find_leaks(groups, [str(f) for f in folds]) == {}
    for fold in range(5):
        here = {g for g, f in zip(groups, folds, strict=True) if f == fold}
        assert len(here) == 4
        assert sum(int(g[1:]) < 10 for g in here) == 2
    assert make_folds(groups, strata, 5, seed=0) == folds


def test_more_folds_than_patients():
    with pytest.raises(ValueError, match=r"5 folds need .* there are 2 patients"):
        make_folds(["a", "a", "b"], ["normal"] * 3, 5, 0)


def test_duplicates():
    assert find_duplicates({"b": "1", "a": "1", "c": "2", "d": "3", "e": "3"}) == [["a", "b"], ["d", "e"]]


def test_leaks():
    assert find_leaks(["p1", "p2", "p1"], ["train", "test", "test"]) == {"p1": ["test", "train"]}
