"""WeaklySupervisedRCNN: end to end and in two stages, proposals of every kind, codes on disk."""

import re

import pytest
import torch

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import Boxes, EventStorage, Instances, build_model, get_cfg
from mammo_d2.modeling.roi_heads.dual_branch import DUAL_BRANCH_VARIANTS
from tests.modeling.conftest import make_image


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
        head = HEAD if not variant.startswith("max_region") else HEAD - {"roi_heads.det_score"}
        assert trained_parameters(model) == {"backbone", "roi_heads.encoder"} | head

    def test_two_stage_training_reaches_the_head_only(self, make_model):
        assert trained_parameters(make_model("MODEL.DUAL_BRANCH.FROZEN", True)) == HEAD

    @pytest.mark.parametrize("backbone", ["vgg", "resnet"])
    def test_each_window_by_itself(self, make_model, backbone):
        """Pixels outside a window change its code with shared maps only; training reaches the same parameters."""
        each = ("MODEL.DUAL_BRANCH.SHARED_MAPS", False, "MODEL.DUAL_BRANCH.DROPOUT", 0.0)
        first, second = make_input(size=(224, 448)), make_input(size=(224, 448))
        side = 224 if backbone == "vgg" else 64
        second["image"][:, :, side:] = 0
        boxes = ((0.0, 0.0, float(side), float(side)),)
        proposals = Instances((224, 448), proposal_boxes=Boxes(torch.tensor(boxes)))
        given = ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals")
        records = [{**record, "proposals": proposals} for record in (first, second)]
        scores = {}
        for name, settings in (("each", each), ("frozen", (*each, "MODEL.DUAL_BRANCH.FROZEN", True)), ("shared", ())):
            with torch.no_grad():
                model = make_model(*settings, *given, backbone=backbone).eval()
                scores[name] = torch.stack([model._regions([record])[0][0] for record in records])
        assert torch.equal(*scores["each"])
        assert torch.equal(*scores["frozen"])
        assert not torch.allclose(*scores["shared"], rtol=1e-3)
        torch.testing.assert_close(scores["each"], scores["frozen"])
        encoder = {"roi_heads.encoder"} if backbone == "vgg" else set()
        assert trained_parameters(make_model(*each, backbone=backbone)) == {"backbone"} | encoder | HEAD

    def test_windows_by_themselves_need_no_maps(self, make_model):
        with pytest.raises(ValueError, match=r"SHARED_MAPS False .* TopLikelihoodRPN"):
            make_model(
                "MODEL.DUAL_BRANCH.SHARED_MAPS", False, "MODEL.PROPOSAL_GENERATOR.NAME", "TopLikelihoodRPN",
                backbone="resnet",
            )  # fmt: skip

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
        ["pixels", "statistics", "weights", "windows", "layers", "maps"],
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
        elif change == "maps":
            more = ("MODEL.DUAL_BRANCH.SHARED_MAPS", False)
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
