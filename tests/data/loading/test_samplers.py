"""Guarantees of the training samplers: pairs, shares of the ranks, resume."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.data.loading.samplers import (
    SAMPLER_REGISTRY,
    BalancedClassSampler,
    ImagePools,
    LocatedSampler,
    PairSampler,
    PositiveSampler,
    ShuffleSampler,
    StreamSampler,
    split_pools,
)

sizes = st.integers(1, 12)
worlds = st.integers(1, 4)


def take(sampler, count):
    return list(islice(iter(sampler), count))


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, worlds, st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_every_batch_of_every_rank_holds_pairs(positives, negatives, world, pairs, seed):
    pool = (range(positives), range(100, 100 + negatives))
    whole = take(PairSampler(*pool, seed=seed), 2 * pairs * world * 3)
    per_rank = [take(PairSampler(*pool, seed=seed, rank=r, world_size=world), 2 * pairs * 3) for r in range(world)]
    for share in per_rank:
        assert all(index < 100 for index in share[0::2])
        assert all(index >= 100 for index in share[1::2])
    # One step's batches joined over the ranks are the one-process batch of that step.
    for step in range(3):
        joined = [index for share in per_rank for index in share[2 * pairs * step : 2 * pairs * (step + 1)]]
        assert sorted(joined) == sorted(whole[2 * pairs * world * step : 2 * pairs * world * (step + 1)])


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, st.integers(0, 1000))
def test_each_pool_is_gone_through_completely_before_it_repeats(positives, negatives, seed):
    sampler = PairSampler(range(positives), range(100, 100 + negatives), seed=seed)
    stream = take(sampler, 2 * 3 * max(positives, negatives))
    for side, pool in ((0, range(positives)), (1, range(100, 100 + negatives))):
        drawn = stream[side::2]
        for begin in range(0, len(drawn) - len(pool) + 1, len(pool)):
            assert sorted(drawn[begin : begin + len(pool)]) == list(pool)


def test_length_of_an_epoch():
    assert PairSampler(range(3), range(100, 110), seed=0).epoch_images == 6  # every positive with a negative
    assert PositiveSampler(range(3), seed=0).epoch_images == 3
    assert ShuffleSampler(range(7), seed=0).epoch_images == 7
    assert BalancedClassSampler([range(2), range(5), range(1)], seed=0).epoch_images == 15


def test_a_sampler_that_does_not_say_how_long_an_epoch_is():
    with pytest.raises(ValueError, match=r"SAMPLER_TRAIN StreamSampler does not say .*: set SOLVER.EPOCHS 0 and"):
        _ = StreamSampler().epoch_images


def test_pools_are_shuffled_independently_and_anew_each_pass():
    stream = take(PairSampler(range(50), range(50), seed=1), 200)
    first, second = stream[0:100:2], stream[100::2]
    assert first != second
    assert first != list(range(50))
    assert stream[0:100:2] != stream[1:100:2]


def test_seed_decides():
    assert take(PairSampler(range(9), range(9), seed=1), 40) == take(PairSampler(range(9), range(9), seed=1), 40)
    assert take(PairSampler(range(9), range(9), seed=1), 40) != take(PairSampler(range(9), range(9), seed=2), 40)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, worlds, st.integers(0, 30), st.data())
def test_a_resumed_pair_sampler_goes_on_with_the_next_sample(positives, negatives, world, pairs_done, data):
    rank = data.draw(st.integers(0, world - 1))
    share = {"seed": 3, "rank": rank, "world_size": world}
    whole = PairSampler(range(positives), range(negatives), **share)
    resumed = PairSampler(range(positives), range(negatives), start=2 * pairs_done, **share)
    assert take(whole, 2 * pairs_done + 20)[2 * pairs_done :] == take(resumed, 20)
    assert list(islice(whole.positions(), 2 * pairs_done, 2 * pairs_done + 20)) == list(islice(resumed.positions(), 20))


@settings(max_examples=40, deadline=None)
@given(sizes, worlds, st.integers(0, 30))
def test_shuffle_sampler_shares_and_resumes(size, world, done):
    whole = take(ShuffleSampler(range(size), seed=0), 60 * world)
    for rank in range(world):
        share = ShuffleSampler(range(size), seed=0, rank=rank, world_size=world)
        assert take(share, 60) == whole[rank::world]
        resumed = ShuffleSampler(range(size), seed=0, start=done, rank=rank, world_size=world)
        assert take(resumed, 10) == whole[rank::world][done : done + 10]
    assert sorted(whole[:size]) == list(range(size))


def test_positions_of_two_ranks():
    first, second = (PairSampler([0], [1], seed=0, start=2, rank=rank, world_size=2) for rank in (0, 1))
    # Units of two positions go to the ranks in turn: 0 1 | 2 3 | 4 5 | 6 7; each has had one pair.
    assert list(islice(first.positions(), 4)) == [4, 5, 8, 9]
    assert list(islice(second.positions(), 4)) == [6, 7, 10, 11]


def test_no_bias_of_the_order():
    # Each of the 6 orders of three images is equally likely over 3000 passes: 500 expected, standard deviation 20.
    stream = np.array(take(ShuffleSampler(range(3), seed=11), 9000)).reshape(-1, 3)
    _, counts = np.unique(stream, axis=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 420
    assert counts.max() < 580


def box(**extra):
    return {"bbox": [0, 0, 1, 1], "category_id": 0, **extra}


def test_split_pools():
    records = [
        {"annotations": [box()]},
        {"annotations": []},
        {"annotations": [box(iscrowd=1)], "file_name": "crowd.png"},
        {"annotations": [], "labels": {"malignant": 1, "benign": 0}},
        {"annotations": [], "labels": {"malignant": None, "benign": 1}},
        {"annotations": [], "labels": {"malignant": 0, "benign": None}},
        {"annotations": [box(iscrowd=1), box()], "labels": None},
    ]
    records = [{"image_id": number, **record} for number, record in enumerate(records)]
    pools = split_pools(records, ["malignant"], "toy")
    assert pools == ImagePools([0, 6], [1, 5], [2, 3], [4], [4], "toy", exams=list(range(7)))
    assert list(pools.all) == list(range(7))


def image(benign, malignant):
    return {"annotations": [], "labels": {"benign": benign, "malignant": malignant}}


# The dual-branch paper's mix: 12 % normal, 80 % benign and 8 % malignant images, one of them with both.
PAPER_MIX = [image(0, 0)] * 12 + [image(1, 0)] * 80 + [image(1, 1)] + [image(None, 1)] * 7
UNKNOWN = [image(None, 0), image(1, None), image(None, None)]


class TestBalancedClassSampler:
    def stream(self, records, count, **share):
        pools = split_pools(records, ["benign", "malignant"], "toy")
        return take(BalancedClassSampler.from_pools(pools, seed=3, **share), count)

    def test_classes_are_drawn_equally_often(self):
        """In any three consecutive images one of each class, though only 8 % of the images are malignant."""
        drawn = np.array(self.stream(PAPER_MIX + UNKNOWN, 300))
        classes = np.digitize(drawn, [12, 92, 100])  # 0 normal, 1 benign, 2 malignant, 3 unknown
        assert classes.reshape(-1, 3).tolist() == [[0, 1, 2]] * 100
        counts = np.bincount(drawn, minlength=103)
        assert set(counts[:12]) == {8, 9}
        assert set(counts[12:92]) == {1, 2}
        assert set(counts[92:100]) == {12, 13}
        assert counts[100:].sum() == 0

    def test_resuming_and_ranks_share_one_stream(self):
        whole = self.stream(PAPER_MIX, 60)
        assert self.stream(PAPER_MIX, 20, start=40) == whole[40:]
        parts = [self.stream(PAPER_MIX, 30, rank=rank, world_size=2) for rank in (0, 1)]
        assert [index for pair in zip(*parts, strict=True) for index in pair] == whole

    def test_images_without_a_box_count_by_their_label(self):
        """A malignant label without a contour is a malignant image; a box counts without a label."""
        boxed = {"annotations": [{**box(), "category_id": 1}], "labels": None}
        pools = split_pools([image(0, 0), image(1, 0), image(None, 1), boxed], ["benign", "malignant"])
        assert list(pools.severity) == [0, 1, 2, 2]
        assert pools.unlocalized == [1, 2]

    def test_a_class_without_images_is_an_error_with_the_remedy(self):
        with pytest.raises(ValueError, match=r"toy has no normal images of .* set DATALOADER\.SAMPLER_TRAIN"):
            self.stream(PAPER_MIX[12:], 1)
        with pytest.raises(ValueError, match=r"no images whose most severe class is number 2"):
            self.stream(PAPER_MIX[:92], 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PairSampler", {0, 2, 3}),
        ("PositiveSampler", {0, 3}),
        ("LocatedSampler", {0, 2, 3}),
        ("TrainingSampler", {0, 1, 2, 3, 4, 5}),
    ],
)
def test_registered_samplers_draw_from_their_pools(name, expected):
    pools = ImagePools(positives=[0, 3], negatives=[2], unlocalized=[1], unknown=[4, 5], unlabelled=[4])
    sampler = SAMPLER_REGISTRY.get(name)
    assert set(take(sampler.from_pools(pools, seed=0), 40)) == expected
    assert sampler.DRAWS_UNKNOWN == (4 in expected)


@pytest.mark.parametrize(
    ("sampler", "pools", "message"),
    [
        (PairSampler, ImagePools([0], [], source="toy_train"), "toy_train has no negative image .*add healthy images"),
        (PairSampler, ImagePools([0], unknown=[1, 2], negatives=[]), "among its 3 images, 2 of them unknown; add"),
        (PairSampler, ImagePools([], [0], source="toy_train"), "toy_train has no positive image .*DATASETS.CATEGORIES"),
        (PositiveSampler, ImagePools([], [0], source="toy_train"), "toy_train has no positive image"),
        (LocatedSampler, ImagePools([], [0], source="toy_train"), "toy_train has no positive image"),
    ],
)
def test_an_empty_pool_is_an_error_with_the_remedy(sampler, pools, message):
    with pytest.raises(ValueError, match=message):
        sampler.from_pools(pools, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"start": 3}, "multiple of 2"), ({"start": -2}, "not negative"), ({"rank": 2, "world_size": 2}, "rank 2")],
)
def test_bad_shares(arguments, message):
    with pytest.raises(ValueError, match=message):
        PairSampler([0], [1], seed=0, **arguments)


def test_empty_shuffle_sampler():
    with pytest.raises(ValueError, match="at least one image"):
        ShuffleSampler([], seed=0)


class TestLabelOnlyPositives:
    """PairSampler with positive images that have labels only: 0..9 with boxes, 100.. negative, 200.. label-only."""

    def sampler(self, boxed=4, label_only=8, **arguments):
        return PairSampler(
            range(boxed), range(100, 105), label_only=range(200, 200 + label_only), seed=3, **arguments
        )  # fmt: skip

    @pytest.mark.parametrize(("share", "of_60"), [(0.5, 30), (0.25, 15), (0.1, 6), (0.9, 54), (0.0, 40)])
    def test_share_of_the_positive_images(self, share, of_60):
        """0 is the data's share: 8 of 12 images."""
        stream = take(self.sampler(label_only_share=share), 120)
        assert all(100 <= index < 105 for index in stream[1::2])
        assert sum(index >= 200 for index in stream[0::2]) == of_60

    def test_half_take_turns_and_each_pool_is_gone_through(self):
        drawn = take(self.sampler(label_only_share=0.5), 32)[0::2]
        assert [index >= 200 for index in drawn] == [False, True] * 8
        assert sorted(drawn[0:8:2]) == sorted(drawn[8::2]) == [0, 1, 2, 3]
        assert sorted(drawn[1::2]) == list(range(200, 208))

    def test_without_label_only_images_nothing_changes(self):
        plain = PairSampler(range(4), range(100, 105), seed=3)
        assert take(self.sampler(label_only=0, label_only_share=0.5), 40) == take(plain, 40)
        pools = ImagePools(range(4), range(100, 105), unlocalized=range(200, 208))
        assert take(PairSampler.from_pools(pools, seed=3), 40) == take(plain, 40)

    def test_labels_alone(self):
        stream = take(self.sampler(boxed=0, label_only_share=0.5), 32)
        assert sorted(stream[0:16:2]) == list(range(200, 208))

    def test_resuming_and_ranks_share_one_stream(self):
        whole = take(self.sampler(label_only_share=0.3), 80)
        assert take(self.sampler(label_only_share=0.3, start=40), 40) == whole[40:]
        parts = [take(self.sampler(label_only_share=0.3, rank=rank, world_size=2), 40) for rank in (0, 1)]
        assert [parts[unit % 2][2 * (unit // 2) + side] for unit in range(40) for side in (0, 1)] == whole

    def test_an_epoch_has_as_many_positive_images_as_there_are(self):
        assert self.sampler(label_only_share=0.5).epoch_images == 24

    def test_share_of_one(self):
        with pytest.raises(ValueError, match=r"DATALOADER\.LABEL_ONLY_SHARE is 1\.0"):
            self.sampler(label_only_share=1.0)
