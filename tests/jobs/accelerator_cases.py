"""Every meta-architecture, small, with a batch to train on and records to predict: for tests on devices."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import Boxes, CfgNode, Instances, get_cfg
from tests.modeling.conftest import detector_cfg, make_image
from tests.modeling.gmic_models import gmic_cfg, gmic_input


@dataclass(frozen=True)
class Case:
    """A model's config, its training batch (empty: it is not trained) and records to predict."""

    cfg: Callable[[], CfgNode]
    batch: Callable[[], list[dict]]
    records: Callable[[], list[dict]]


def _cfg(base: dict, *overrides) -> CfgNode:
    cfg = get_cfg()
    add_mammo_config(cfg)
    settings = {"MODEL.DEVICE": "cpu", "MODEL.WEIGHTS": "", "DATASETS.CATEGORIES": ["benign", "malignant"], **base}
    settings |= dict(zip(overrides[::2], overrides[1::2], strict=True))
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    return cfg


def _detector(form: str, *overrides) -> Case:
    boxes = [[10.0, 12.0, 40.0, 44.0], [36.0, 20.0, 60.0, 60.0]]

    def batch() -> list[dict]:
        return [make_image(boxes, (64, 64), 1), make_image([], (64, 48), 2)]

    return Case(
        # Every anchor becomes a proposal and is trained on: no choice that rounding could change decides the losses.
        lambda: detector_cfg(
            form, "MODEL.RPN.BATCH_SIZE_PER_IMAGE", 100000, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 100000,
            "MODEL.RPN.NMS_THRESH", 1.0, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 12000, "MODEL.RPN.POST_NMS_TOPK_TEST", 30,
            "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, *overrides,
        ),
        batch,
        lambda: [{"image": one["image"], "height": 128, "width": 96} for one in batch()],
    )  # fmt: skip


def _gmic(*overrides) -> Case:
    more = {"birads": "2"}
    return Case(
        lambda: gmic_cfg("MODEL.GMIC.PATCH_SIZE", [16, 16], "MODEL.GMIC.NUM_PATCHES", 2, *overrides),
        lambda: [gmic_input(0, 1, seed=1, **more), gmic_input(1, None, seed=2, size=(64, 48))],
        lambda: [gmic_input(seed=3), gmic_input(seed=4, size=(64, 48))],
    )


def _ensemble() -> Case:
    trained = _gmic("MODEL.META_ARCHITECTURE", "GMICEnsemble", "MODEL.GMIC.ENSEMBLE", [0.1, 0.5])
    return Case(trained.cfg, list, trained.records)


DEEP_MIL = {
    "MODEL.META_ARCHITECTURE": "DeepMIL",
    "MODEL.BACKBONE.NAME": "build_alexnet_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.PIXEL_MEAN": [128.0],
    "MODEL.PIXEL_STD": [64.0],
    "MODEL.DEEP_MIL.CLASSIFIER_FC": [16],
    "MODEL.DEEP_MIL.CLASSIFIER_DROPOUT": 0.0,
}


def _deep_mil(head: str) -> Case:
    return Case(
        lambda: _cfg(DEEP_MIL, "MODEL.DEEP_MIL.HEAD", head),
        lambda: [gmic_input(0, 1, seed=1, size=(96, 64)), gmic_input(0, 0, seed=2, size=(64, 96))],
        lambda: [gmic_input(seed=3, size=(96, 64))],
    )


DUAL_BRANCH = {
    "MODEL.META_ARCHITECTURE": "WeaklySupervisedRCNN",
    "MODEL.PIXEL_MEAN": [60.0] * 3,
    "MODEL.PIXEL_STD": [50.0] * 3,
    "MODEL.BACKBONE.NAME": "build_vgg_m_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.VGG_M.CHANNELS": [4, 4, 6, 6, 8],
    "MODEL.VGG_M.FC_DIMS": [32, 24],
    "MODEL.PROPOSAL_GENERATOR.NAME": "SlidingWindowRegions",
    "MODEL.SLIDING_WINDOW.SIZE": 64,
    "MODEL.SLIDING_WINDOW.STRIDE": 32,
    "MODEL.ROI_HEADS.NAME": "DualBranchROIHeads",
    "MODEL.ROI_HEADS.NUM_CLASSES": 2,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
    "MODEL.DUAL_BRANCH.REGION_ENCODER": "VGGMRegionEncoder",
    "MODEL.DUAL_BRANCH.DROPOUT": 0.0,
    "INPUT.TISSUE_CELL": 16,
}
SMALL_RESNET = (
    "MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.STEM_OUT_CHANNELS", 4,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 8, "MODEL.RESNETS.WIDTH_PER_GROUP", 2,
    "MODEL.DUAL_BRANCH.REGION_ENCODER", "PooledRegionEncoder",
)  # fmt: skip


def _dual_branch(*overrides) -> Case:
    def record(seed: int, size: tuple[int, int], **labels) -> dict:
        proposals = Instances(
            size, proposal_boxes=Boxes(torch.tensor([[4.0, 8.0, 60.0, 70.0], [30.0, 2.0, 90.0, 66.0]]))
        )
        tissue = torch.zeros(2, -(-size[0] // 16), -(-size[1] // 16))
        tissue[0, :, 1:] = 1.0
        facts = {"labels": labels, "image_id": seed, "tissue": tissue, "proposals": proposals}
        return {**make_image([], size, seed), **facts}

    return Case(
        lambda: _cfg(DUAL_BRANCH, *overrides),
        lambda: [record(1, (128, 96), benign=0, malignant=1), record(2, (96, 160), benign=None, malignant=0)],
        lambda: [record(3, (128, 112))],
    )


LESION = {
    "MODEL.PIXEL_MEAN": [30.0],
    "MODEL.PIXEL_STD": [30.0],
    "MODEL.LESION.EPOCH": [1, 1, 1, 1],
    "MODEL.LESION.NETWORK": "tiny",
    "MODEL.LESION.EMBEDDING": 3,
    "MODEL.LESION.MAP_SIZE": [4, 3],
    "MODEL.LESION.CHANNELS": 4,
    "MODEL.LESION.MAPS": ["indicator", "embedding", "saliency"],
    "MODEL.LESION.WINDOWS_PER_FORWARD": 3,
}


def _lesion(model: str) -> Case:
    generator = torch.Generator().manual_seed(0)

    def patch(kind: int) -> dict:
        return {
            "patch_class": kind,
            "image": torch.rand(1, 16, 16, generator=generator.manual_seed(kind)) * 255,
            "embedding": torch.randn(3, generator=generator),
            "window": torch.tensor([3.0, 5.0, 20.0, 24.0 + kind]),
            "image_size": torch.tensor([40, 60]),
            "saliency": torch.rand(2, 4, 3, generator=generator),
        }

    def image() -> dict:
        return {
            "image_id": 4,
            "patches": torch.rand(5, 1, 16, 16, generator=generator.manual_seed(9)) * 255,
            "windows": torch.tensor([[3.0, 5.0, 20.0, 24.0]]).repeat(5, 1),
            "window_lesion": torch.tensor([0, 0, 0, 1, 1]),
            "num_lesions": 2,
            "image_size": torch.tensor([40, 60]),
            "saliency": torch.rand(2, 4, 3, generator=generator),
        }

    settings = ("MODEL.META_ARCHITECTURE", model, "MODEL.LESION.LOSS_AVERAGE", "weights")
    return Case(lambda: _cfg(LESION, *settings), lambda: [patch(k) for k in (0, 1, 3, 2)], lambda: [image()])


BIRADS = ("MODEL.META_ARCHITECTURE", "ResNet22Classifier", "MODEL.CLASSIFIER.TARGET", "birads")
FROZEN = ("MODEL.DUAL_BRANCH.FROZEN", True)

CASES = {
    "top_likelihood_fpn": _detector("FPN"),
    "top_likelihood_c4": _detector("C4"),
    "random_negatives": _detector("FPN", "MODEL.RPN.NEGATIVE_IMAGES", "random"),
    "ignored_negatives": _detector("FPN", "MODEL.RPN.NEGATIVE_IMAGES", "ignore"),
    "deep_mil_max": _deep_mil("max"),
    "deep_mil_label_assignment": _deep_mil("label_assignment"),
    "deep_mil_sparse": _deep_mil("sparse"),
    "deep_mil_classifier": _deep_mil("classifier"),
    "dual_branch": _dual_branch(),
    "dual_branch_max_region": _dual_branch("MODEL.DUAL_BRANCH.VARIANT", "max_region"),
    "dual_branch_baseline": _dual_branch("MODEL.DUAL_BRANCH.VARIANT", "db_baseline", *SMALL_RESNET),
    "dual_branch_given_proposals": _dual_branch("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"),
    "dual_branch_detector_proposals": _dual_branch(
        "MODEL.PROPOSAL_GENERATOR.NAME", "TopLikelihoodRPN", "MODEL.RPN.POST_NMS_TOPK_TEST", 12, *SMALL_RESNET
    ),
    "dual_branch_frozen": _dual_branch(*FROZEN),
    "gmic_full": _gmic(),
    "gmic_concat": _gmic("MODEL.GMIC.FUSION", "concat", "MODEL.GMIC.PATCH_SIZE", [32, 32], "MODEL.GMIC.NUM_PATCHES", 3),
    "gmic_loc": _gmic("MODEL.GMIC.VARIANT", "loc"),
    "gmic_mil": _gmic("MODEL.GMIC.VARIANT", "mil"),
    "gmic_no_attention": _gmic("MODEL.GMIC.VARIANT", "no_attention"),
    "gmic_random": _gmic("MODEL.GMIC.VARIANT", "random"),
    "gmic_loc_random": _gmic("MODEL.GMIC.VARIANT", "loc_random", "MODEL.GMIC.SPARSITY_EXPONENT", 0.5),
    "gmic_checkpointing": _gmic("MODEL.RESNET22.CHECKPOINTING", True, "MODEL.GMIC.VARIANT", "loc"),
    "gmic_skip_background": _gmic("MODEL.RESNET22.SKIP_BACKGROUND", True),
    "gmic_ensemble": _ensemble(),
    "resnet22": _gmic("MODEL.META_ARCHITECTURE", "ResNet22Classifier"),
    "resnet22_birads": _gmic(*BIRADS),
    "lesion_patch": _lesion("LesionPatchClassifier"),
    "lesion_context": _lesion("LesionContextClassifier"),
}

#: Of those that differ in what is rounded.
MIXED_PRECISION = (
    "top_likelihood_fpn", "top_likelihood_c4", "deep_mil_sparse", "deep_mil_classifier", "dual_branch",
    "dual_branch_detector_proposals", "dual_branch_frozen", "gmic_concat", "gmic_checkpointing", "resnet22",
    "resnet22_birads", "lesion_patch", "lesion_context",
)  # fmt: skip
