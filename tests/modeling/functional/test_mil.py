import math

import pytest
import torch
from torch import Tensor

from mammo_d2.modeling.functional import mil

NAN = math.nan


def log(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).log()


def random_batch(seed: int = 0, counts=(5, 3, 1), classes: int = 3, findings: int = 2):
    """cls_logits, det_logits, mask in double precision; padding holds large numbers that must not matter."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(counts), max(counts))
    cls_logits = torch.randn((*shape, classes), generator=generator, dtype=torch.float64)
    det_logits = torch.randn((*shape, findings), generator=generator, dtype=torch.float64)
    mask = torch.arange(shape[1]) < torch.tensor(counts)[:, None]
    cls_logits[~mask], det_logits[~mask] = 50.0, 60.0
    return cls_logits, det_logits, mask


class TestPadRegions:
    def test_padding_and_mask(self):
        padded, mask = mil.pad_regions([torch.ones(1, 2), torch.full((3, 2), 2.0)])
        assert padded.tolist() == [[[1, 1], [0, 0], [0, 0]], [[2, 2]] * 3]
        assert mask.tolist() == [[True, False, False], [True, True, True]]

    @pytest.mark.parametrize("regions", [[], [torch.ones(2, 1), torch.ones(0, 1)]])
    def test_an_image_without_regions_is_an_error(self, regions):
        with pytest.raises(ValueError, match="at least one region"):
            mil.pad_regions(regions)


class TestRegionLogProbs:
    def test_softmax_and_its_complement(self):
        # weights 1 : 2 : 5 of 8
        logits = log(1, 2, 5).view(1, 1, 3)
        result = mil.region_log_probs(logits, 2)
        assert result.log_prob.exp().flatten().tolist() == pytest.approx([1 / 8, 2 / 8])
        assert result.log_complement.exp().flatten().tolist() == pytest.approx([7 / 8, 6 / 8])

    def test_complement_is_exact_where_the_probability_rounds_to_one(self):
        result = mil.region_log_probs(torch.tensor([[[40.0, 0.0, 0.0]]]), 1)
        assert result.log_prob.item() == 0.0
        assert result.log_complement.item() == pytest.approx(math.log(2) - 40, rel=1e-6)

    def test_one_class_is_refused(self):
        with pytest.raises(ValueError, match="softmax over 1 class"):
            mil.region_log_probs(torch.zeros(1, 2, 1), 1)


class TestSelectRegions:
    def test_the_k_highest_of_each_finding(self):
        scores = torch.tensor([[[0.1, 0.9], [0.5, 0.2], [0.3, 0.8]]])
        selected = mil.select_regions(scores, torch.ones(1, 3, dtype=torch.bool), 2)
        assert selected[0].tolist() == [[False, True], [True, False], [True, True]]

    def test_fewer_regions_than_k_selects_all_and_no_padding(self):
        mask = torch.tensor([[True, True, False]])
        selected = mil.select_regions(torch.tensor([[[0.1], [0.2], [9.0]]]), mask, 10)
        assert selected[0, :, 0].tolist() == [True, True, False]

    def test_ties_select_exactly_k(self):
        selected = mil.select_regions(torch.zeros(2, 6, 2), torch.ones(2, 6, dtype=torch.bool), 4)
        assert (selected.sum(dim=1) == 4).all()

    def test_k_must_be_positive(self):
        with pytest.raises(ValueError, match="k = 0"):
            mil.select_regions(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool), 0)


class TestDualBranch:
    """Two regions, findings (B, M) and normal last.

    Class weights: region 1 B:M:N = 1:2:5 of 8, region 2 4:3:1 of 8. Ranking weights: B 1:3, M 1:1.
    """

    cls_logits = torch.stack([log(1, 2, 5), log(4, 3, 1)]).unsqueeze(0)
    det_logits = torch.stack([log(1, 1), log(3, 1)]).unsqueeze(0)
    mask = torch.ones(1, 2, dtype=torch.bool)

    def test_all_regions(self):
        # B: 1/4 · 1/8 + 3/4 · 4/8 = 13/32; M: 1/2 · 2/8 + 1/2 · 3/8 = 10/32
        result = mil.dual_branch_log_probs(self.cls_logits, self.det_logits, self.mask)
        assert result.log_prob.exp()[0].tolist() == pytest.approx([13 / 32, 10 / 32])
        assert result.log_complement.exp()[0].tolist() == pytest.approx([19 / 32, 22 / 32])

    def test_one_selected_region_decides_alone(self):
        # Region 2 has the higher p_cls of both findings, so it has all of the ranking.
        result = mil.dual_branch_log_probs(self.cls_logits, self.det_logits, self.mask, num_selected=1)
        assert result.log_prob.exp()[0].tolist() == pytest.approx([4 / 8, 3 / 8])

    @pytest.mark.parametrize("k", [2, 3, 10])
    def test_k_of_at_least_m_selects_everything(self, k):
        everything = mil.dual_branch_log_probs(self.cls_logits, self.det_logits, self.mask)
        result = mil.dual_branch_log_probs(self.cls_logits, self.det_logits, self.mask, num_selected=k)
        torch.testing.assert_close(result, everything)

    def test_a_single_region_is_classified(self):
        result = mil.dual_branch_log_probs(self.cls_logits[:, :1], self.det_logits[:, :1], self.mask[:, :1], 10)
        assert result.log_prob.exp()[0].tolist() == pytest.approx([1 / 8, 2 / 8])

    def test_without_normal_class(self):
        # B:M of region 1 is 1:2, of region 2 4:3. B: 1/4 · 1/3 + 3/4 · 4/7 = 43/84
        result = mil.dual_branch_log_probs(self.cls_logits[..., :2], self.det_logits, self.mask)
        assert result.log_prob[0, 0].exp().item() == pytest.approx(43 / 84)

    def test_max_region(self):
        """Binary: the odds of each finding's best region, 4 and 3; a third logit would be no normal class."""
        result = mil.max_region_log_probs(self.cls_logits[..., :2], self.mask)
        assert result.log_prob.exp()[0].tolist() == pytest.approx([4 / 5, 3 / 4])
        assert result.log_complement.exp()[0].tolist() == pytest.approx([1 / 5, 1 / 4])

    def test_max_region_softmax(self):
        result = mil.max_region_softmax_log_probs(self.cls_logits, self.mask, 2)
        assert result.log_prob.exp()[0].tolist() == pytest.approx([4 / 8, 3 / 8])
        assert result.log_complement.exp()[0].tolist() == pytest.approx([4 / 8, 5 / 8])

    def test_localization_scores_rank_all_regions(self):
        scores = mil.localization_scores(self.cls_logits, self.det_logits, self.mask)[0]
        assert scores.flatten().tolist() == pytest.approx([1 / 4 * 1 / 8, 1 / 2 * 2 / 8, 3 / 4 * 4 / 8, 1 / 2 * 3 / 8])

    def test_loss(self):
        # labels B = 1, M = 0: -log(13/32) - log(22/32)
        probs = mil.dual_branch_log_probs(self.cls_logits, self.det_logits, self.mask)
        loss = mil.image_loss(probs, torch.tensor([[1.0, 0.0]]))
        assert loss.item() == pytest.approx(-math.log(13 / 32) - math.log(22 / 32))

    def test_unknown_labels_add_nothing(self):
        probs = mil.dual_branch_log_probs(self.cls_logits, self.det_logits, self.mask)
        assert mil.image_loss(probs, torch.tensor([[NAN, 0.0]])).item() == pytest.approx(-math.log(22 / 32))

    def test_the_mean_over_parts_is_the_batch(self):
        cls_logits, det_logits, mask = random_batch()
        targets = torch.tensor([[1.0, 0.0], [NAN, NAN], [0.0, NAN]])
        probs = mil.dual_branch_log_probs(cls_logits, det_logits, mask, 2)
        parts = [mil.image_loss(mil.LogProbs(*(p[i : i + 1] for p in probs)), targets[i : i + 1]) for i in range(3)]
        assert mil.image_loss(probs, targets).item() == pytest.approx(sum(part.item() for part in parts) / 3)


class TestDeepMil:
    """Image 1 has responses 0.8, 0.5, 0.2; image 2 has 0.9 and two cells of padding."""

    logits = torch.tensor([[0.8, 0.5, 0.2], [0.9, 0.5, 0.5]], dtype=torch.float64).logit().unsqueeze(-1)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    targets = torch.tensor([[1.0], [0.0]])

    def test_max_pooling(self):
        assert mil.max_pooling_logits(self.logits, self.mask).sigmoid().flatten().tolist() == pytest.approx([0.8, 0.9])
        loss = mil.max_pooling_loss(self.logits, self.mask, self.targets)
        assert loss.item() == pytest.approx((-math.log(0.8) - math.log(0.1)) / 2)

    @pytest.mark.parametrize(
        ("k", "first"),
        [
            (1, (math.log(0.8) + math.log(0.5) + math.log(0.8)) / 3),
            (2, (math.log(0.8) + math.log(0.5) + math.log(0.8)) / 3),
            (3, (math.log(0.8) + math.log(0.5) + math.log(0.2)) / 3),
            (7, (math.log(0.8) + math.log(0.5) + math.log(0.2)) / 3),
        ],
    )
    def test_label_assignment(self, k, first):
        loss = mil.label_assignment_loss(self.logits, self.mask, self.targets, k)
        assert loss.item() == pytest.approx((-first - math.log(0.1)) / 2)

    def test_label_assignment_takes_the_highest_wherever_they_are(self):
        logits = torch.tensor([0.2, 0.6, 0.9], dtype=torch.float64).logit().view(1, 3, 1)
        loss = mil.label_assignment_loss(logits, torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 1), 2)
        assert loss.item() == pytest.approx(-(math.log(0.9) + math.log(0.6) + math.log(0.8)) / 3)

    def test_sparse(self):
        loss = mil.sparse_loss(self.logits, self.mask, self.targets, mu=0.01)
        assert loss.item() == pytest.approx((-math.log(0.8) - math.log(0.1) + 0.01 * (1.5 + 0.9)) / 2)

    def test_the_sparsity_weighs_the_same_at_every_number_of_regions(self):
        """The same responses in four times as many regions: the plain sum is four times as large."""
        few = torch.tensor([0.8, 0.5, 0.2]).double().logit().view(1, 3, 1)
        many = few.repeat(1, 4, 1)
        masks = [torch.ones(1, logits.shape[1], dtype=torch.bool) for logits in (few, many)]
        target = torch.ones(1, 1)
        plain, scaled = (
            [mil.sparse_loss(x, mask, target, 0.01, number).item() for x, mask in zip((few, many), masks, strict=True)]
            for number in (0, 6)
        )
        assert plain == pytest.approx([-math.log(0.8) + 0.01 * 1.5, -math.log(0.8) + 0.01 * 6.0])
        assert scaled == pytest.approx([-math.log(0.8) + 0.01 * 1.5 * 6 / 3] * 2)

    def test_the_sparsity_counts_each_images_own_regions(self):
        """The second image has one region, of response 0.9, and padding."""
        loss = mil.sparse_loss(self.logits, self.mask, self.targets, 0.01, 12)
        regions = self.mask.sum(dim=1).tolist()
        sparsity = 0.01 * 12 * (1.5 / regions[0] + 0.9 / regions[1])
        assert loss.item() == pytest.approx((-math.log(0.8) - math.log(0.1) + sparsity) / 2)

    def test_sparse_without_weight_is_max_pooling(self):
        loss = mil.sparse_loss(self.logits, self.mask, self.targets, mu=0.0)
        assert loss.item() == mil.max_pooling_loss(self.logits, self.mask, self.targets).item()

    def test_one_region_makes_all_schemes_the_classifier(self):
        logits, mask, targets = self.logits[:, :1], self.mask[:, :1], self.targets
        expected = mil.classifier_loss(logits[:, 0], targets).item()
        assert mil.max_pooling_loss(logits, mask, targets).item() == pytest.approx(expected)
        assert mil.label_assignment_loss(logits, mask, targets, 4).item() == pytest.approx(expected)

    def test_unknown_images_do_not_pull_their_responses_down(self):
        logits = self.logits.clone().requires_grad_()
        targets = torch.full((2, 1), NAN)
        losses = [
            mil.max_pooling_loss(logits, self.mask, targets),
            mil.label_assignment_loss(logits, self.mask, targets, 2),
            mil.sparse_loss(logits, self.mask, targets, 1.0),
        ]
        assert [loss.item() for loss in losses] == [0.0, 0.0, 0.0]
        sum(losses).backward()
        assert (logits.grad == 0).all()


def schemes(cls_logits: Tensor, det_logits: Tensor, mask: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Every loss on the same batch."""
    findings = det_logits.shape[-1]
    return {
        "cls_det_rs": mil.image_loss(mil.dual_branch_log_probs(cls_logits, det_logits, mask, 2), targets),
        "db_baseline": mil.image_loss(mil.dual_branch_log_probs(cls_logits[..., :findings], det_logits, mask), targets),
        "max_region": mil.image_loss(mil.max_region_log_probs(cls_logits[..., :findings], mask), targets),
        "max_region_softmax": mil.image_loss(mil.max_region_softmax_log_probs(cls_logits, mask, findings), targets),
        "max": mil.max_pooling_loss(det_logits, mask, targets),
        "label_assignment": mil.label_assignment_loss(det_logits, mask, targets, 2),
        "sparse": mil.sparse_loss(det_logits, mask, targets, 0.1),
        "classifier": mil.classifier_loss(mil.max_pooling_logits(det_logits, mask), targets),
    }


NAMES = list(schemes(*random_batch(), torch.zeros(3, 2)))
TARGETS = torch.tensor([[1.0, 0.0], [NAN, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    cls_logits, det_logits, mask = random_batch(counts=(4, 2, 1))
    inputs = (cls_logits.requires_grad_(), det_logits.requires_grad_())
    assert torch.autograd.gradcheck(lambda c, d: schemes(c, d, mask, TARGETS)[name], inputs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("counts", [(1,), (2, 2), (1, 6)])
def test_gradients_of_few_regions(name, counts):
    """k = 2 of one region, of exactly two, and of images with one and with six regions."""
    cls_logits, det_logits, mask = random_batch(seed=1, counts=counts)
    inputs = (cls_logits.requires_grad_(), det_logits.requires_grad_())
    targets = TARGETS[: len(counts)]
    assert torch.autograd.gradcheck(lambda c, d: schemes(c, d, mask, targets)[name], inputs)


class TestOnePositiveRegion:
    """Of four regions the third alone shows the finding: odds of 9 there, 1/9 elsewhere, ranking weight 7 to 1."""

    cls_logits = torch.stack([log(1, 9), log(1, 9), log(9, 1), log(1, 9)]).unsqueeze(0)  # finding, normal
    det_logits = log(1, 1, 7, 1).view(1, 4, 1)
    mask = torch.ones(1, 4, dtype=torch.bool)
    positive, negative = torch.ones(1, 1), torch.zeros(1, 1)

    @pytest.mark.parametrize(
        ("k", "expected"),
        [(1, 0.9), (2, 7 / 8 * 0.9 + 1 / 8 * 0.1), (4, 0.7 * 0.9 + 0.3 * 0.1), (None, 0.7 * 0.9 + 0.3 * 0.1)],
    )
    def test_dual_branch(self, k, expected):
        probs = mil.dual_branch_log_probs(self.cls_logits, self.det_logits, self.mask, k)
        assert mil.image_loss(probs, self.positive).item() == pytest.approx(-math.log(expected))
        assert mil.image_loss(probs, self.negative).item() == pytest.approx(-math.log(1 - expected))

    def test_max_region_and_localisation(self):
        probs = mil.max_region_softmax_log_probs(self.cls_logits, self.mask, 1)
        assert probs.log_prob.exp().item() == pytest.approx(0.9)
        scores = mil.localization_scores(self.cls_logits, self.det_logits, self.mask).flatten().tolist()
        assert scores == pytest.approx([0.01, 0.01, 0.63, 0.01])

    def test_deep_mil(self):
        logits = (self.cls_logits[..., :1] - self.cls_logits[..., 1:]).contiguous()  # responses 0.1, 0.1, 0.9, 0.1
        one = -math.log(0.9)
        assert mil.max_pooling_loss(logits, self.mask, self.positive).item() == pytest.approx(one)
        assert mil.max_pooling_loss(logits, self.mask, self.negative).item() == pytest.approx(-math.log(0.1))
        # each of the four is on its side of the label with 0.9; of a negative image the third is not
        assigned = mil.label_assignment_loss(logits, self.mask, self.positive, 1)
        assert assigned.item() == pytest.approx(one)
        assigned = mil.label_assignment_loss(logits, self.mask, self.negative, 1)
        assert assigned.item() == pytest.approx((3 * one - math.log(0.1)) / 4)
        sparse = mil.sparse_loss(logits, self.mask, self.positive, 0.5)
        assert sparse.item() == pytest.approx(one + 0.5 * 1.2)

    @pytest.mark.parametrize("scheme", ["cls_det_rs", "db_baseline", "max_region_softmax", "max"])
    def test_a_stronger_region_brings_the_loss_to_zero(self, scheme):
        """The limit in which the region decides alone and with certainty."""
        cls_logits = torch.zeros(1, 4, 3, dtype=torch.float64)
        det_logits = torch.zeros(1, 4, 2, dtype=torch.float64)
        cls_logits[..., 2], cls_logits[0, 2] = 60.0, torch.tensor([60.0, 0.0, 0.0])
        det_logits[..., 0], det_logits[0, 2, 0] = -60.0, 60.0
        det_logits[..., 1] = -60.0
        if scheme == "db_baseline":  # without normal class every region shows one of the two
            cls_logits[..., 0], cls_logits[..., 1] = 60.0, 0.0
        loss = schemes(cls_logits, det_logits, self.mask, torch.tensor([[1.0, 0.0]]))[scheme]
        assert 0 <= loss.item() < 1e-20


@pytest.mark.parametrize("name", NAMES)
def test_padding_does_not_matter_and_gets_no_gradient(name):
    cls_logits, det_logits, mask = random_batch()
    cls_logits.requires_grad_()
    det_logits.requires_grad_()
    loss = schemes(cls_logits, det_logits, mask, TARGETS)[name]
    loss.backward()
    for logits in (cls_logits, det_logits):
        if logits.grad is not None:
            assert (logits.grad[~mask] == 0).all()
    singles = [
        schemes(cls_logits[i : i + 1, :m], det_logits[i : i + 1, :m], mask[i : i + 1, :m], TARGETS[i : i + 1])[name]
        for i, m in enumerate(mask.sum(dim=1))
    ]
    assert loss.item() == pytest.approx(sum(single.item() for single in singles) / 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_regions_does_not_matter(name):
    cls_logits, det_logits, mask = random_batch()
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = schemes(cls_logits[:, order], det_logits[:, order], mask[:, order], TARGETS)[name]
    assert shuffled.item() == pytest.approx(schemes(cls_logits, det_logits, mask, TARGETS)[name].item())


def test_localisation_scores_follow_their_regions_and_padding_has_none():
    cls_logits, det_logits, mask = random_batch()
    order = torch.tensor([3, 0, 4, 1, 2])
    scores = mil.localization_scores(cls_logits, det_logits, mask)
    shuffled = mil.localization_scores(cls_logits[:, order], det_logits[:, order], mask[:, order])
    torch.testing.assert_close(shuffled, scores[:, order])
    assert (scores[~mask] == 0).all()
    alone = mil.localization_scores(cls_logits[1:2, :3], det_logits[1:2, :3], mask[1:2, :3])
    torch.testing.assert_close(scores[1:2, :3], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_half_precision_logits_stay_finite(name, dtype):
    """Logits of ±300: a probability computed in half precision would be 0 or 1, its logarithm infinite."""
    cls_logits, det_logits, mask = random_batch()
    cls_logits, det_logits = (x.sign().mul(300).to(dtype).requires_grad_() for x in (cls_logits, det_logits))
    loss = schemes(cls_logits, det_logits, mask, TARGETS)[name]
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    grads = [x.grad for x in (cls_logits, det_logits) if x.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_equals_single_precision_of_the_same_numbers(name):
    cls_logits, det_logits, mask = random_batch(seed=4)
    half = (cls_logits.bfloat16(), det_logits.bfloat16())
    expected = schemes(*(x.double() for x in half), mask, TARGETS)[name].item()
    assert schemes(*half, mask, TARGETS)[name].item() == pytest.approx(expected, rel=1e-5)
