"""Every config in the repository loads, and those of the papers have the papers' settings."""

import numpy as np
import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.experiments.variant_runs import load_variants
from mammo_d2.jobs.lesion.lesion_stages import stage_config
from tests.conftest import ROOT

CONFIGS = ROOT / "configs"
FILES = sorted(
    p for p in CONFIGS.rglob("*.yaml") if not p.name.startswith(("ablation_", "compare_")) and p.parent.name != "search"
)


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(CONFIGS)) for p in FILES])
def test_config_loads(path):
    cfg = load_config(str(path))
    assert cfg.VERSION == 2
    assert cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS is False


@pytest.mark.parametrize("form", ["C4", "FPN"])
def test_top_likelihood_settings(form):
    """Section 3 of the paper: input, anchors, optimizer and schedule."""
    cfg = load_config(str(CONFIGS / "top_likelihood" / f"R101_{form}.yaml"))
    assert cfg.INPUT.SIZE == [512, 512]
    assert not cfg.INPUT.KEEP_ASPECT
    assert cfg.MODEL.RESNETS.DEPTH == 101
    assert sorted(size for level in cfg.MODEL.ANCHOR_GENERATOR.SIZES for size in level) == [4, 8, 16, 32, 64]
    assert sorted(cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS[0]) == [0.5, 1.0, 2.0]
    assert cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN == 2000
    assert (cfg.MODEL.RPN.TOP_LIKELIHOOD_T or cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE) == 256
    assert cfg.MODEL.RPN.TOP_LIKELIHOOD_WEIGHT == 1.0
    assert cfg.MODEL.ROI_HEADS.SIMILARITY_WEIGHT == 0.1
    assert (cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == ("Adam", 1e-4, 45000)
    assert list(cfg.SOLVER.STEPS) == [9000, 18000, 27000, 36000]
    assert cfg.SOLVER.GAMMA == pytest.approx(0.1)
    assert cfg.SOLVER.IMS_PER_BATCH == 2
    assert cfg.DATALOADER.SAMPLER_TRAIN == "PairSampler"


@pytest.mark.parametrize("form", ["C4", "FPN"])
@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("positives_only", "DATALOADER.SAMPLER_TRAIN", "PositiveSampler"),
        ("random_negatives", "MODEL.RPN.NEGATIVE_IMAGES", "random"),
        ("no_similarity", "MODEL.ROI_HEADS.SIMILARITY_WEIGHT", 0.0),
        ("random_negatives_similarity", "MODEL.RPN.NEGATIVE_IMAGES", "random"),
        ("random_negatives_similarity", "MODEL.ROI_HEADS.SIMILARITY_WEIGHT", 0.1),
        ("fine_tuned", "MODEL.WEIGHTS", "./output/top_likelihood_R101_{form}_positives_only/model_final.pth"),
        ("benign_class", "DATASETS.CATEGORIES", ["malignant", "benign"]),
    ],
)
def test_ablations(form, name, key, value):
    node = load_config(str(CONFIGS / "top_likelihood" / f"R101_{form}_{name}.yaml"))
    for part in key.split("."):
        node = node[part]
    assert node == (value.format(form=form) if isinstance(value, str) else value)


def test_as_many_anchors_are_ranked_as_are_sampled():
    """T = 256 and 256 sampled anchors in the paper; their numbers are equal in every config. mAP is PASCAL VOC's."""
    found = [load_config(str(path)) for path in FILES if "top_likelihood" in str(path)]
    found = [cfg for cfg in found if cfg.MODEL.PROPOSAL_GENERATOR.NAME == "TopLikelihoodRPN"]
    assert len(found) >= 15
    for cfg in found:
        assert cfg.MODEL.RPN.TOP_LIKELIHOOD_T in (0, cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE)
        assert "voc" in cfg.TEST.EVALUATORS


def test_the_papers_two_protocols():
    """Section 2.3: patients 4:1; 600 and 100 mass mammograms, benign ones without annotations. Tables 1 and 2."""
    folder = CONFIGS / "top_likelihood"
    private = load_config(str(folder / "private.yaml"))
    assert (private.DATASETS.TRAIN, private.DATASETS.TEST) == (("private_train",), ("private_test",))
    assert "--split 0.8 0 0.2" in (folder / "private.yaml").read_text()
    ddsm = load_config(str(folder / "ddsm_mass.yaml"))
    assert ddsm.DATASETS.CATEGORIES == ["malignant"]
    assert ddsm.DATASETS.TAKE == [
        ["cbis_mass_train", "malignant", 304], ["cbis_mass_train", "benign", 296],
        ["cbis_mass_test", "malignant", 45], ["cbis_mass_test", "benign", 55],
    ]  # fmt: skip
    rows = {
        name: [load_config(str(folder / f"{name}.yaml"), variant.overrides) for variant in variants]
        for name in ("private", "ddsm_mass")
        if (variants := load_variants(str(folder / f"ablation_{name}.yaml")))
    }
    assert [row.MODEL.RPN.NEGATIVE_IMAGES for row in rows["private"]] == (
        ["ignore", "random", "random", "top_likelihood", "top_likelihood", "top_likelihood"]
    )
    assert [row.MODEL.ROI_HEADS.SIMILARITY_WEIGHT for row in rows["private"]] == [0.0, 0.0, 0.1, 0.0, 0.1, 0.1]
    assert [row.DATASETS.CATEGORIES for row in rows["ddsm_mass"]] == (
        [["malignant"], ["malignant"], ["malignant", "benign"]]
    )
    assert {row.SOLVER.IMS_PER_BATCH for name in rows for row in rows[name]} == {2}


@pytest.mark.parametrize("name", ["top_likelihood/R101_FPN_mixed", "quickstart/phantom_mixed"])
def test_mixed_supervision(name):
    """The full method, and in every batch a positive image with boxes and one with a label alone."""
    cfg = load_config(str(CONFIGS / f"{name}.yaml"))
    assert cfg.MODEL.META_ARCHITECTURE == "MixedSupervisionRCNN"
    assert cfg.MODEL.PROPOSAL_GENERATOR.NAME == "TopLikelihoodRPN"
    assert (cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.LABEL_ONLY_POSITIVES) == ("PairSampler", "use")
    assert cfg.DATALOADER.LABEL_ONLY_SHARE * cfg.SOLVER.IMS_PER_BATCH / 2 == 1
    assert 0 < cfg.MODEL.MIXED.START_ITER < cfg.SOLVER.MAX_ITER / 2


def test_ablation_rows_are_valid_overrides():
    variants = load_variants(str(CONFIGS / "quickstart" / "ablation_top_likelihood.yaml"))
    assert len(variants) == 7
    quickstart = str(CONFIGS / "quickstart" / "phantom_top_likelihood.yaml")
    rows = [load_config(quickstart, variant.overrides) for variant in variants]
    kinds = [(row.MODEL.RPN.NEGATIVE_IMAGES, row.MODEL.ROI_HEADS.SIMILARITY_WEIGHT) for row in rows[:6]]
    assert kinds == [
        ("ignore", 0.0), ("random", 0.0), ("random", 0.1), ("top_likelihood", 0.0), ("top_likelihood", 0.1),
        ("top_likelihood", 0.1),
    ]  # fmt: skip
    # Normalisation layers see as many images in every row, and all but the last see the same images.
    assert {row.SOLVER.IMS_PER_BATCH for row in rows} == {4}
    assert [row.DATALOADER.SAMPLER_TRAIN for row in rows] == ["PairSampler"] * 6 + ["PositiveSampler"]
    assert {row.MODEL.RPN.LOSS_AVERAGE for row in rows} == {"kind"}
    assert rows[5].MODEL.WEIGHTS == f"{{weights:{variants[0].name}}}"
    assert rows[6].DATASETS.CATEGORIES == ["malignant", "benign"]


def test_gmic_settings():
    """Sections 2.2 and 3.1 of the paper; t of the released models."""
    cfg = load_config(str(CONFIGS / "gmic" / "GMIC.yaml"))
    assert cfg.INPUT.SIZE == [2944, 1920]
    assert cfg.MODEL.GMIC.NUM_PATCHES == 6
    assert cfg.MODEL.GMIC.PATCH_SIZE == [256, 256]
    assert cfg.MODEL.GMIC.ATTENTION_CHANNELS == 128
    assert cfg.MODEL.GMIC.FUSION == "average"
    assert cfg.DATASETS.CATEGORIES == ["benign", "malignant"]
    assert (cfg.SOLVER.OPTIMIZER, cfg.DATALOADER.SAMPLER_TRAIN) == ("Adam", "ExamSampler")
    assert 10**-5.5 <= cfg.SOLVER.BASE_LR <= 10**-3.8
    assert 10**-5 <= cfg.MODEL.GMIC.SPARSITY_WEIGHT <= 10**-2.8
    released = [load_config(str(CONFIGS / "gmic" / f"released_{number}.yaml")) for number in range(1, 6)]
    assert [one.MODEL.GMIC.TOP_FRACTION for one in released] == [0.02, 0.03, 0.03, 0.05, 0.1]
    assert {one.MODEL.GMIC.FUSION for one in released} == {"concat"}


def test_gmic_pretraining_settings():
    """Section 3.1: the backbone learns BI-RADS 0, 1 and 2 from all images, at GMIC's input, with its architecture."""
    cfg, gmic = (load_config(str(CONFIGS / "gmic" / f"{name}.yaml")) for name in ("ResNet22_birads", "GMIC"))
    assert cfg.MODEL.META_ARCHITECTURE == "ResNet22Classifier"
    assert cfg.MODEL.CLASSIFIER.TARGET == "birads"
    assert cfg.MODEL.CLASSIFIER.BIRADS_GROUPS == [[0], [1], [2]]
    assert cfg.DATALOADER.SAMPLER_TRAIN == "TrainingSampler"
    assert list(cfg.TEST.EVALUATORS) == []
    assert cfg.TEST.LOSS_EPOCHS > 0
    assert (cfg.MODEL.RESNET22, cfg.INPUT.SIZE) == (gmic.MODEL.RESNET22, gmic.INPUT.SIZE)


def test_gmic_ablation_rows_are_the_papers():
    variants = load_variants(str(CONFIGS / "quickstart" / "ablation_gmic.yaml"))
    assert len(variants) == 7
    for variant in variants:
        load_config(str(CONFIGS / "quickstart" / "phantom_gmic.yaml"), variant.overrides)


@pytest.mark.parametrize(
    ("head", "weight_decay"), [("max", 1e-5), ("label_assignment", 1e-5), ("sparse", 5e-6), ("classifier", 1e-5)]
)
def test_deep_mil_settings(head, weight_decay):
    """Section 3 of the paper: input, augmentation, optimizer, λ and μ."""
    cfg = load_config(str(CONFIGS / "deep_mil" / f"AlexNet_{head}.yaml"))
    assert cfg.MODEL.META_ARCHITECTURE == "DeepMIL"
    assert head == cfg.MODEL.DEEP_MIL.HEAD
    assert (cfg.INPUT.SIZE, cfg.INPUT.KEEP_ASPECT) == ([227, 227], False)
    assert (cfg.INPUT.AUG.FLIP_HORIZONTAL, cfg.INPUT.AUG.FLIP_VERTICAL) == (0.5, 0.0)
    assert (cfg.INPUT.AUG.SHIFT, cfg.INPUT.AUG.ROTATION) == (0.1, 45.0)
    assert (cfg.INPUT.AUG.CUTOUT_SIZE, cfg.INPUT.AUG.CUTOUT_PROB) == (50, 1.0)
    assert (cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR) == ("Adam", 5e-5)
    assert cfg.SOLVER.WEIGHT_DECAY == pytest.approx(weight_decay)
    assert cfg.MODEL.DEEP_MIL.SPARSITY == pytest.approx(1e-5)
    assert (cfg.MODEL.DEEP_MIL.SPARSITY_CELLS, cfg.MODEL.DEEP_MIL.HIDDEN) == (36, [])
    assert (cfg.MODEL.DEEP_MIL.CLASSIFIER_FC, cfg.MODEL.DEEP_MIL.CLASSIFIER_DROPOUT) == ([4096, 4096], 0.5)
    assert cfg.JOB == ("TwoStageJob" if head == "label_assignment" else "SingleStageJob")


@pytest.mark.parametrize(
    ("head", "weight_decay"), [("max", 1e-5), ("label_assignment", 1e-5), ("sparse", 5e-6), ("classifier", 1e-5)]
)
def test_deep_mil_settings_of_the_released_code(head, weight_decay):
    cfg = load_config(str(CONFIGS / "deep_mil" / f"released_{head}.yaml"))
    assert head == cfg.MODEL.DEEP_MIL.HEAD
    assert cfg.MODEL.DEEP_MIL.HIDDEN == [128, 128]
    assert cfg.MODEL.DEEP_MIL.SPARSITY == pytest.approx(1e-4 if head == "sparse" else 1e-5)
    assert (cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == ("Adam", 5e-5, 80)
    assert cfg.SOLVER.WEIGHT_DECAY == pytest.approx(weight_decay)
    assert (cfg.SOLVER.EPOCHS, cfg.SOLVER.MAX_ITER, cfg.TEST.EVAL_EPOCHS) == (500, 0, 1)
    assert cfg.TEST.BEST_METRIC == "image/malignant/auc"
    assert cfg.JOB == ("TwoStageJob" if head == "label_assignment" else "SingleStageJob")
    assert cfg.MODEL.DEEP_MIL.TOP_K == (1 if head == "label_assignment" else 2)


def test_deep_mil_ablation_rows():
    """One augmentation and optimizer, the paper's, for all rows; λ as in the paper; two stages."""
    file = str(CONFIGS / "quickstart" / "phantom_deep_mil.yaml")
    rows = {
        v.name: load_config(file, v.overrides)
        for v in load_variants(str(CONFIGS / "quickstart/ablation_deep_mil.yaml"))
    }
    assert list(rows)[:4] == ["classifier", "max pooling", "label assignment", "sparse"]
    for name, cfg in rows.items():
        aug = cfg.INPUT.AUG
        assert (aug.FLIP_HORIZONTAL, aug.FLIP_VERTICAL, aug.SHIFT, aug.ROTATION) == (0.5, 0.0, 0.1, 45.0)
        assert (aug.CUTOUT_SIZE, aug.CUTOUT_PROB, aug.SCALE) == (50, 1.0, [1.0, 1.0])
        assert (aug.BRIGHTNESS, aug.CONTRAST, aug.GAMMA) == (0.0, 0.0, 0.0)
        assert cfg.SOLVER.OPTIMIZER == "Adam"
        assert cfg.SOLVER.WEIGHT_DECAY == pytest.approx(5e-6 if name == "sparse" else 1e-5)
    assert rows["classifier"].MODEL.DEEP_MIL.CLASSIFIER_FC == [256, 256]
    assert rows["label assignment"].MODEL.DEEP_MIL.HEAD == "label_assignment"
    assert rows["label assignment"].JOB == "TwoStageJob"
    assert rows["label assignment"].FIRST_STAGE.WEIGHTS == "{weights:max pooling}"
    assert rows["sparse"].MODEL.DEEP_MIL.SPARSITY_CELLS == 36


@pytest.mark.parametrize("variant", ["cls_det_rs", "db_baseline", "max_region", "max_region_softmax"])
def test_dual_branch_settings(variant):
    """Section 2 of the paper: windows, network, k, optimizer and batch."""
    cfg = load_config(str(CONFIGS / "dual_branch" / f"VGGM128_{variant}.yaml"))
    assert variant == cfg.MODEL.DUAL_BRANCH.VARIANT
    assert (cfg.MODEL.SLIDING_WINDOW.SIZE, cfg.MODEL.SLIDING_WINDOW.STRIDE) == (224, 112)
    assert cfg.MODEL.VGG_M.CHANNELS == [96, 256, 512, 512, 512]
    assert cfg.MODEL.VGG_M.FC_DIMS == [4096, 128]
    assert cfg.MODEL.DUAL_BRANCH.FROZEN
    assert not cfg.MODEL.DUAL_BRANCH.SHARED_MAPS
    assert cfg.MODEL.DUAL_BRANCH.NUM_SELECTED == 10
    assert cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATE == 256
    assert (cfg.SOLVER.OPTIMIZER, cfg.SOLVER.BASE_LR) == ("Adam", 1e-4)
    assert cfg.DATASETS.CATEGORIES == ["benign", "malignant"]
    assert (cfg.TEST.FROC.HIT, cfg.TEST.FROC.THRESHOLD, cfg.TEST.FROC.RECALL_OF) == ("iom", 0.5, "image")
    assert cfg.TEST.IMAGE.AGGREGATE == "max"
    assert cfg.DATALOADER.SAMPLER_TRAIN == "BalancedClassSampler"
    assert "froc_classified" in cfg.TEST.EVALUATORS
    assert cfg.TEST.FROC.CLASSIFICATION_SENSITIVITY == 0.85


def test_dual_branch_on_phantoms():
    """Balanced classes and the paper's FROC; in two stages each window by itself, images the same each time."""
    for name in ("phantom_dual_branch", "phantom_dual_branch_two_stage"):
        cfg = load_config(str(CONFIGS / "quickstart" / f"{name}.yaml"))
        assert cfg.DATALOADER.SAMPLER_TRAIN == "BalancedClassSampler"
        assert "froc_classified" in cfg.TEST.EVALUATORS
    assert cfg.MODEL.DUAL_BRANCH.FROZEN
    assert not cfg.MODEL.DUAL_BRANCH.SHARED_MAPS
    off = {key: value for key, value in cfg.INPUT.AUG.items() if key.startswith(("FLIP", "SHIFT", "ROT", "BR", "CONT"))}
    assert set(off.values()) == {0.0}
    rows = load_variants(str(CONFIGS / "quickstart" / "ablation_dual_branch.yaml"))
    assert [row.name for row in rows] == [
        "Max-region", "Max-region softmax", "DB-Baseline", "normal class, all regions", "Cls-Det-RS",
    ]  # fmt: skip
    for row in rows:
        load_config(str(CONFIGS / "quickstart" / "phantom_dual_branch.yaml"), row.overrides)


def test_dual_branch_on_inbreast():
    """Section 3 of the paper: trained on one half, tested on the other; nothing is chosen on the test half."""
    cfg = load_config(str(CONFIGS / "dual_branch" / "VGGM128_inbreast.yaml"))
    assert (list(cfg.DATASETS.TRAIN), list(cfg.DATASETS.TEST)) == (["inbreast_train"], ["inbreast_test"])
    assert (cfg.TEST.BEST_METRIC, cfg.TEST.EVAL_PERIOD, cfg.DATASETS.LABEL_LEVEL) == ("", 0, "image")


@pytest.mark.parametrize(
    "name",
    [
        "deep_mil/AlexNet_sparse",
        "dual_branch/VGGM128_cls_det_rs",
        "quickstart/phantom_deep_mil",
        "quickstart/phantom_dual_branch",
        "quickstart/phantom_gmic",
    ],
)
def test_what_learns_from_labels_is_not_augmented_by_boxes(name):
    assert not load_config(str(CONFIGS / f"{name}.yaml")).INPUT.AUG.KEEP_LESION


def test_windows_are_cut_at_the_resolution_of_the_image():
    """Section 2 of the dual-branch paper: full resolution. A small image must not be enlarged to the input size."""
    cfg = load_config(str(CONFIGS / "dual_branch" / "VGGM128_cls_det_rs.yaml"))
    mapper = MammoMapper(cfg, is_train=False)
    assert mapper.network_image(np.zeros((2000, 900), np.float32), 255.0, {}).pixels.shape == (2000, 900)
    assert mapper.network_image(np.zeros((3328, 2560), np.float32), 255.0, {}).pixels.shape == (2496, 1920)


def test_lesion_context_settings(tmp_path):
    """Methods of the paper: patches, networks, and what each of the two trainings overrides."""
    cfg = load_config(str(CONFIGS / "lesion_context" / "DenseNet161.yaml"), ["OUTPUT_DIR", str(tmp_path)])
    keys = cfg.MODEL.LESION
    assert (keys.NETWORK, keys.EMBEDDING, keys.MAPS) == ("densenet161", 32, ["embedding", "saliency"])
    assert (keys.EPOCH, keys.WINDOW_SIDES, keys.ROTATION) == ([20, 35, 5000, 4945], [128, 384], 30.0)
    assert (keys.PATCH_SIZE, keys.WINDOWS, keys.MAP_SIZE) == (256, 100, [46, 30])
    patch = stage_config(cfg, "LesionPatchClassifier")
    assert (patch.SOLVER.OPTIMIZER, patch.SOLVER.IMS_PER_BATCH, patch.TEST.EARLY_STOP_PATIENCE) == ("Adam", 25, 10)
    assert patch.TEST.EVAL_PERIOD * patch.SOLVER.IMS_PER_BATCH == sum(keys.EPOCH)
    (tmp_path / "patch" / "model_final.pth").touch()
    context = stage_config(cfg, "LesionContextClassifier")
    assert context.TEST.EVAL_PERIOD * context.SOLVER.IMS_PER_BATCH == sum(keys.EPOCH)
    assert 1e-6 <= patch.SOLVER.BASE_LR <= 1e-4
    assert 1e-5 <= context.SOLVER.BASE_LR <= 1e-3
