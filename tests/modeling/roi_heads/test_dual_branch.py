"""DualBranchROIHeads: the compared systems by hand, detections, loss and gradients."""

import math

import pytest
import torch
from torch import nn

from mammo_d2.framework import Boxes, Instances
from mammo_d2.modeling.roi_heads.dual_branch import DUAL_BRANCH_VARIANTS, DualBranchROIHeads

WEIGHTS = [math.log(2.0), math.log(4.0)]


class GivenLogits(nn.Module):
    """A linear layer that hands through some of its inputs."""

    def __init__(self, *columns: int):
        super().__init__()
        self.columns = list(columns)

    def forward(self, x):
        return x[..., self.columns]


def make_heads(variant: str, **kwargs) -> DualBranchROIHeads:
    """Heads for codes (B, M, N, rank B, rank M) that are the logits themselves."""
    encoder = nn.Identity()
    encoder.out_channels = 5
    heads = DualBranchROIHeads(
        encoder=encoder, in_feature="x", num_findings=2, variant=variant, fc_dim=5, dropout=0.0, **kwargs
    )
    heads.fc3 = nn.Identity()
    heads.cls_score = GivenLogits(0, 1, 2) if heads.variant.normal_class else GivenLogits(0, 1)
    if heads.variant.ranks:
        heads.det_score = GivenLogits(3, 4)
    return heads.eval()


def regions(count: int, size=(100, 200)) -> Instances:
    boxes = torch.tensor([[20.0 * i, 0.0, 20.0 * i + 20, 30.0] for i in range(count)]).view(-1, 4)
    return Instances(size, proposal_boxes=Boxes(boxes))


# Region 1 has class weights B:M:N = 1:2:5, region 2 has 4:3:1; the ranking weights are B 1:3, M 1:1.
CODES = torch.tensor([[1.0, 2.0, 5.0, 1.0, 1.0], [4.0, 3.0, 1.0, 3.0, 1.0]]).log()


class TestHeads:
    @pytest.mark.parametrize(
        ("variant", "expected"),
        [
            ("cls_det_rs", [13 / 32, 10 / 32]),
            ("db_baseline", [1 / 4 * 1 / 3 + 3 / 4 * 4 / 7, 1 / 2 * 2 / 3 + 1 / 2 * 3 / 7]),
            ("max_region", [4 / 5, 3 / 4]),
            ("max_region_softmax", [4 / 8, 3 / 8]),
        ],
    )
    def test_image_probabilities_of_the_compared_systems(self, variant, expected):
        _, extra = make_heads(variant).forward_codes([CODES], [regions(2)])
        assert extra["image_probs"][0].tolist() == pytest.approx(expected)

    def test_normal_is_neither_finding(self):
        """(1 - 13/32) (1 - 10/32); with a certain finding next to nothing is left, and what is left is exact."""
        _, extra = make_heads("cls_det_rs").forward_codes([CODES], [regions(2)])
        assert extra["normal_probs"].tolist() == pytest.approx([19 / 32 * 22 / 32])
        certain = torch.tensor([[60.0, 0.0, 0.0, 0.0, 0.0]])
        _, extra = make_heads("cls_det_rs").forward_codes([certain], [regions(1)])
        assert extra["normal_probs"].item() == pytest.approx(2 * math.exp(-60), rel=1e-5, abs=0)

    def test_k_is_used(self):
        _, extra = make_heads("cls_det_rs", num_selected=1).forward_codes([CODES], [regions(2)])
        assert extra["image_probs"][0].tolist() == pytest.approx([4 / 8, 3 / 8])

    @pytest.mark.parametrize(
        ("variant", "expected"),
        [
            ("cls_det_rs", [(1, 0, 12 / 32), (1, 1, 6 / 32), (0, 1, 4 / 32), (0, 0, 1 / 32)]),
            ("max_region", [(1, 0, 4 / 5), (1, 1, 3 / 4), (0, 1, 2 / 3), (0, 0, 1 / 2)]),
            ("max_region_softmax", [(1, 0, 4 / 8), (1, 1, 3 / 8), (0, 1, 2 / 8), (0, 0, 1 / 8)]),
        ],
    )
    def test_regions_become_detections_best_first(self, variant, expected):
        (found,), _ = make_heads(variant).forward_codes([CODES], [regions(2)])
        assert (found.pred_boxes.tensor[:, 0] / 20).int().tolist() == [region for region, _, _ in expected]
        assert found.pred_classes.tolist() == [label for _, label, _ in expected]
        assert found.scores.tolist() == pytest.approx([score for _, _, score in expected])

    def test_detections_are_limited(self):
        heads = make_heads("cls_det_rs", score_thresh=0.1, detections_per_image=2)
        (found,), _ = heads.forward_codes([CODES], [regions(2)])
        assert found.scores.tolist() == pytest.approx([12 / 32, 6 / 32])

    def test_findings_share_the_detections(self):
        """The best three are of the first finding; the second still gets its best region."""
        codes = torch.tensor([[5.0, 1.0, 4.0, 1.0, 1.0]] * 3).log()
        codes[1, 1] += 0.1
        (found,), _ = make_heads("cls_det_rs", detections_per_image=3).forward_codes([codes], [regions(3)])
        assert found.pred_classes.tolist() == [0, 0, 1, 1]  # 3 / 2, rounded up, of each
        assert (found.pred_boxes.tensor[2, 0] / 20).item() == 1.0

    def test_a_certain_finding_has_a_probability_of_one_at_most(self):
        """What reads the scores (mammo-d2 average-scores) takes nothing above 1, also not by a rounding error."""
        codes = torch.randn(40, 200, 5, generator=torch.Generator().manual_seed(0)) * 3
        codes[..., 0] += 30
        heads = make_heads("cls_det_rs")
        _, extra = heads.forward_codes(list(codes), [regions(200)] * 40)
        assert extra["image_probs"][:, 0].min() > 0.999
        assert extra["image_probs"].max() <= 1.0

    def test_images_with_different_numbers_of_regions(self):
        heads = make_heads("cls_det_rs")
        found, extra = heads.forward_codes([CODES, CODES[:1]], [regions(2), regions(1)])
        assert extra["image_probs"][1].tolist() == pytest.approx([1 / 8, 2 / 8])
        assert len(found[1]) == 2

    def test_loss(self):
        heads = make_heads("cls_det_rs").train()
        _, losses = heads.forward_codes([CODES], [regions(2)], torch.tensor([[1.0, 0.0]]))
        assert losses["loss_image"].item() == pytest.approx(-math.log(13 / 32) - math.log(22 / 32))

    @pytest.mark.parametrize("variant", DUAL_BRANCH_VARIANTS)
    def test_gradients_through_the_whole_head(self, variant):
        """Codes and every weight, with images of three, one and two regions and k = 2."""
        torch.manual_seed(0)
        encoder = nn.Identity()
        encoder.out_channels = 4
        heads = DualBranchROIHeads(
            encoder=encoder, in_feature="x", num_findings=2, variant=variant, num_selected=2, fc_dim=5, dropout=0.0
        )
        heads = heads.double().train()
        for weight in heads.parameters():  # from the initial 0.01 the differences are too small
            nn.init.normal_(weight, std=0.7)
        codes = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
        targets = torch.tensor([[1.0, 0.0], [math.nan, 1.0], [0.0, 0.0]])
        proposals = [regions(count) for count in (3, 1, 2)]

        def loss(codes, *weights):
            return heads.forward_codes(list(codes.split([3, 1, 2])), proposals, targets)[1]["loss_image"]

        assert torch.autograd.gradcheck(loss, (codes, *heads.parameters()))

    def test_training_without_image_labels_is_explained(self):
        with pytest.raises(ValueError, match="WeaklySupervisedRCNN"):
            make_heads("cls_det_rs").train().forward_codes([CODES], [regions(2)])

    def test_wrong_settings_name_the_key(self):
        encoder = nn.Identity()
        encoder.out_channels = 5
        common = {"encoder": encoder, "in_feature": "x"}
        with pytest.raises(ValueError, match="VARIANT is 'x'"):
            DualBranchROIHeads(**common, num_findings=2, variant="x")
        with pytest.raises(ValueError, match="NUM_SELECTED is 0"):
            DualBranchROIHeads(**common, num_findings=2, num_selected=0)
        with pytest.raises(ValueError, match="no normal class"):
            DualBranchROIHeads(**common, num_findings=1, variant="db_baseline")

    def test_max_region_is_a_binary_classifier_of_each_finding(self):
        """As published: no normal class, and one finding alone is possible; the softmax has a normal class."""
        encoder = nn.Identity()
        encoder.out_channels = 5
        for variant, findings, classes in (("max_region", 1, 1), ("max_region", 2, 2), ("max_region_softmax", 2, 3)):
            heads = DualBranchROIHeads(encoder=encoder, in_feature="x", num_findings=findings, variant=variant)
            assert heads.cls_score.out_features == classes
            assert heads.det_score is None
