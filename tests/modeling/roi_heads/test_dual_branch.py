"""DualBranchROIHeads and WeaklySupervisedRCNN."""

import math
import re

import pytest
import torch
from torch import nn

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import Boxes, EventStorage, Instances, build_model, get_cfg
from mammo_d2.modeling.roi_heads.dual_branch import DUAL_BRANCH_VARIANTS, DualBranchROIHeads
from tests.modeling.conftest import make_image

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
            ("max_region", [4 / 8, 3 / 8]),
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
            ("max_region", [(1, 0, 4 / 8), (1, 1, 3 / 8), (0, 1, 2 / 8), (0, 0, 1 / 8)]),
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
        """What reads the scores (tools/average_scores.py) takes nothing above 1, also not by a rounding error."""
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


@pytest.fixture
def make_model():
    """A seeded tiny weakly supervised model on VGG-M or, with "resnet", on a small ResNet."""

    def make(*overrides, backbone="vgg"):
        cfg = get_cfg()
        add_mammo_config(cfg)
        cfg.MODEL.META_ARCHITECTURE = "WeaklySupervisedRCNN"
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [60.0] * 3, [50.0] * 3
        cfg.MODEL.BACKBONE.FREEZE_AT = 0
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "SlidingWindowRegions"
        cfg.MODEL.ROI_HEADS.NAME = "DualBranchROIHeads"
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
        cfg.DATASETS.CATEGORIES = ["benign", "malignant"]
        if backbone == "vgg":
            cfg.MODEL.BACKBONE.NAME = "build_vgg_m_backbone"
            cfg.MODEL.VGG_M.CHANNELS, cfg.MODEL.VGG_M.FC_DIMS = [4, 4, 6, 6, 8], [32, 24]
            cfg.MODEL.DUAL_BRANCH.REGION_ENCODER = "VGGMRegionEncoder"
        else:
            cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
            cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 16
            cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
            cfg.MODEL.SLIDING_WINDOW.SIZE, cfg.MODEL.SLIDING_WINDOW.STRIDE = 64, 64
        cfg.merge_from_list(list(overrides))
        torch.manual_seed(0)
        return build_model(cfg)

    return make


def make_input(benign=0, malignant=1, size=(224, 336), seed=0) -> dict:
    return {**make_image([], size, seed), "labels": {"benign": benign, "malignant": malignant}, "image_id": seed}


def trained_parameters(model) -> set[str]:
    """Top-level names (two deep) of the parameters that the loss reaches."""
    model.train()
    with EventStorage():
        losses = model([make_input(seed=1), make_input(0, 0, size=(240, 224), seed=2)])
    assert list(losses) == ["loss_image"]
    losses["loss_image"].backward()
    reached = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    return {".".join(name.split(".")[: 2 if name.startswith("roi") else 1]) for name in reached}


HEAD = {"roi_heads.fc3", "roi_heads.cls_score", "roi_heads.det_score"}


class TestModel:
    @pytest.mark.parametrize("variant", DUAL_BRANCH_VARIANTS)
    def test_end_to_end_training_reaches_everything(self, make_model, variant):
        model = make_model("MODEL.DUAL_BRANCH.VARIANT", variant, "MODEL.DUAL_BRANCH.DROPOUT", 0.0)
        head = HEAD if variant != "max_region" else HEAD - {"roi_heads.det_score"}
        assert trained_parameters(model) == {"backbone", "roi_heads.encoder"} | head

    def test_two_stage_training_reaches_the_head_only(self, make_model):
        assert trained_parameters(make_model("MODEL.DUAL_BRANCH.FROZEN", True)) == HEAD

    def test_frozen_parts_stay_in_evaluation_mode(self, make_model):
        model = make_model("MODEL.DUAL_BRANCH.FROZEN", True).train()
        assert model.roi_heads.training
        assert not any(m.training for part in (model.backbone, model.roi_heads.encoder) for m in part.modules())

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (("MODEL.DUAL_BRANCH.FROZEN", True), "backbone and region encoder will not be trained.*or set MODEL"),
            (("MODEL.PROPOSAL_GENERATOR.NAME", "TopLikelihoodRPN"), "the proposal generator will not be trained"),
            ((), ""),
            (("MODEL.DUAL_BRANCH.FROZEN", True, "MODEL.WEIGHTS", "trained.pth"), ""),
        ],
    )
    def test_what_stays_random_is_said(self, make_model, caplog, overrides, message):
        with caplog.at_level("WARNING", logger="mammo_d2.modeling.meta_arch.weakly_supervised"):
            make_model(*overrides, backbone="resnet")
        assert bool(re.search(message, caplog.text)) if message else not caplog.text

    def test_other_backbones(self, make_model):
        assert trained_parameters(make_model(backbone="resnet")) == {"backbone"} | HEAD

    def test_unknown_labels_give_no_loss_and_backward_works(self, make_model):
        loss = make_model().train()([make_input(None, None)])["loss_image"]
        assert loss.item() == 0.0
        loss.backward()

    def test_inference(self, make_model):
        record = {**make_input(size=(224, 336)), "height": 448, "width": 336}
        with torch.no_grad():
            (output,) = make_model().eval()([record])
        assert list(output["image_scores"]) == ["benign", "malignant", "normal"]
        assert all(0 < p < 1 for p in output["image_scores"].values())
        benign, malignant, normal = output["image_scores"].values()
        assert normal == pytest.approx((1 - benign) * (1 - malignant))
        # two windows, two classes; y is twice as large in the prepared image
        boxes = {tuple(box) for box in output["instances"].pred_boxes.tensor.tolist()}
        assert boxes == {(0.0, 0.0, 224.0, 448.0), (112.0, 0.0, 336.0, 448.0)}
        assert len(output["instances"]) == 4

    def test_without_malignancy_is_not_normal(self, make_model):
        """Of one class alone nothing follows about the others; merged ones are all there is."""
        one = ("DATASETS.CATEGORIES", ["malignant"], "MODEL.ROI_HEADS.NUM_CLASSES", 1)
        merged = ("DATASETS.MERGE_CATEGORIES", "finding", "MODEL.ROI_HEADS.NUM_CLASSES", 1)
        with torch.no_grad():
            (output,) = make_model(*one).eval()([make_input()])
            assert list(output["image_scores"]) == ["malignant"]
            (output,) = make_model(*merged).eval()([make_input()])
        assert list(output["image_scores"]) == ["finding", "normal"]

    def test_two_stages_and_end_to_end_give_the_same_result(self, make_model):
        records = [make_input(size=(224, 336), seed=1), make_input(size=(224, 336), seed=2)]
        with torch.no_grad():
            expected = make_model().eval()(records)
            found = make_model("MODEL.DUAL_BRANCH.FROZEN", True).eval()(records)
        for one, two in zip(expected, found, strict=True):
            assert one["image_scores"] == pytest.approx(two["image_scores"], abs=1e-6)

    def test_tissue_chooses_the_windows(self, make_model):
        tissue = torch.zeros(2, 14, 21)
        tissue[0, :, 14:] = 1.0
        record = {**make_input(size=(224, 336)), "tissue": tissue}
        with torch.no_grad():
            (output,) = make_model("INPUT.TISSUE_CELL", 16).eval()([record])
        assert output["instances"].pred_boxes.tensor[:, 0].unique().tolist() == [112.0]

    def test_precomputed_proposals(self, make_model):
        model = make_model("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals").eval()
        record = make_input()
        box = [[10.0, 20.0, 100.0, 120.0]]
        with torch.no_grad():
            (output,) = model([{**record, "proposals": Instances((224, 336), proposal_boxes=Boxes(torch.tensor(box)))}])
            assert output["instances"].pred_boxes.tensor[0].tolist() == box[0]
            empty = Instances((224, 336), proposal_boxes=Boxes(torch.zeros(0, 4)))
            (output,) = model([{**record, "proposals": empty}])
            assert output["instances"].pred_boxes.tensor[0].tolist() == [0.0, 0.0, 336.0, 224.0]
            with pytest.raises(ValueError, match="without proposals"):
                model([record])

    def test_proposals_of_a_region_proposal_network_that_is_not_trained(self, make_model):
        model = make_model(
            "MODEL.PROPOSAL_GENERATOR.NAME", "TopLikelihoodRPN", "MODEL.RPN.POST_NMS_TOPK_TEST", 12,
            "MODEL.DUAL_BRANCH.DROPOUT", 0.0, backbone="resnet",
        )  # fmt: skip
        assert trained_parameters(model) == {"backbone"} | HEAD
        assert not any(p.requires_grad for p in model.proposal_generator.parameters())


class TestCache:
    def settings(self, tmp_path, *more):
        return ("MODEL.DUAL_BRANCH.FROZEN", True, "MODEL.DUAL_BRANCH.CACHE_DIR", str(tmp_path), *more)

    def count(self, tmp_path) -> int:
        return len(list(tmp_path.rglob("*.pt")))

    def run(self, model, record) -> dict:
        with torch.no_grad():
            return model.eval()([record])[0]["image_scores"]

    def test_a_second_pass_does_not_run_the_backbone(self, make_model, tmp_path, monkeypatch):
        first = self.run(make_model(*self.settings(tmp_path)), make_input())
        model = make_model(*self.settings(tmp_path))
        monkeypatch.setattr(model.backbone, "forward", lambda x: pytest.fail("the backbone ran"))
        assert self.run(model, make_input()) == first
        model.train()([make_input()])["loss_image"].backward()
        assert self.count(tmp_path) == 1

    @pytest.mark.parametrize(
        "change",
        ["pixels", "statistics", "weights", "windows", "layers"],
    )
    def test_codes_of_other_settings_are_never_used(self, make_model, tmp_path, change):
        self.run(make_model(*self.settings(tmp_path)), make_input())
        record, more = make_input(), ()
        if change == "pixels":
            record["image"][0, 5, 5] += 1
        elif change == "statistics":
            more = ("MODEL.PIXEL_STD", [50.0, 50.0, 51.0])
        elif change == "windows":
            more = ("MODEL.SLIDING_WINDOW.STRIDE", 96)
        elif change == "layers":
            more = ("MODEL.VGG_M.FC_DIMS", [32, 25])
        model = make_model(*self.settings(tmp_path, *more))
        if change == "weights":
            with torch.no_grad():
                model.backbone.conv3.weight[0] *= 1.001
        self.run(model, record)
        assert self.count(tmp_path) == 2

    @pytest.mark.parametrize(
        ("common", "one", "other"),
        [
            (  # two maps of the same stride and width
                ("MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.OUT_FEATURES", ["stem", "res2"]),
                ("MODEL.DUAL_BRANCH.IN_FEATURE", "stem"),
                ("MODEL.DUAL_BRANCH.IN_FEATURE", "res2"),
            ),
            (  # no layer and no weight tells how a pyramid adds its maps
                (
                    "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.FPN.OUT_CHANNELS", 8,
                    "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"],
                    "MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"], "MODEL.DUAL_BRANCH.IN_FEATURE", "p2",
                ),
                ("MODEL.FPN.FUSE_TYPE", "sum"),
                ("MODEL.FPN.FUSE_TYPE", "avg"),
            ),
        ],
        ids=["map", "pyramid"],
    )  # fmt: skip
    def test_settings_that_no_layer_shows(self, make_model, tmp_path, common, one, other):
        common = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, *common)
        record = make_input(size=(64, 96))
        expected = self.run(make_model("MODEL.DUAL_BRANCH.FROZEN", True, *common, *other, backbone="resnet"), record)
        self.run(make_model(*self.settings(tmp_path), *common, *one, backbone="resnet"), record)
        found = self.run(make_model(*self.settings(tmp_path), *common, *other, backbone="resnet"), record)
        assert self.count(tmp_path) == 2
        assert found == expected

    def test_codes_that_change_in_training_are_not_kept(self, make_model, tmp_path):
        with pytest.raises(ValueError, match="FROZEN True"):
            make_model("MODEL.DUAL_BRANCH.CACHE_DIR", str(tmp_path))
        with pytest.raises(ValueError, match="SlidingWindowRegions or Precomputed"):
            make_model(*self.settings(tmp_path), "MODEL.PROPOSAL_GENERATOR.NAME", "TopLikelihoodRPN", backbone="resnet")
