"""The patch network's own job, and its backbone as the start of whole-image models."""

import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.framework import SafeCheckpointer, build_model
from mammo_d2.jobs.backbone_job import BACKBONE_WEIGHTS
from tests.jobs.lesion.lesion_jobs import run, write_job

NARROW = [
    *("MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.RESNETS.NORM", "BN", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "MODEL.PIXEL_MEAN", "[30.0]"),
    *("MODEL.PIXEL_STD", "[30.0]", "MODEL.DEVICE", "cpu"),
]
PATCHES = [
    *("JOB", "LesionPatchJob", "MODEL.META_ARCHITECTURE", "LesionPatchClassifier", "MODEL.LESION.NETWORK", "backbone"),
    *("MODEL.LESION.PATCH_SIZE", "32", "MODEL.RESNETS.OUT_FEATURES", "['res5']"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = write_job(tmp_path_factory.mktemp("patches"))
    results = run(folder, *NARROW, *PATCHES)
    return folder / "out", results


def test_the_result_is_evaluated_lesion_by_lesion(trained):
    folder, results = trained
    assert 0 <= results["lesion"]["auc"] <= 100
    assert (folder / "config.yaml").is_file()


@pytest.mark.parametrize(
    "model",
    [
        ["MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.OUT_FEATURES", "['res3', 'res4', 'res5']",
         "MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']", "MODEL.RPN.IN_FEATURES", "['p3', 'p4', 'p5']",
         "MODEL.ROI_HEADS.IN_FEATURES", "['p3', 'p4', 'p5']", "MODEL.ROI_HEADS.NAME", "StandardROIHeads",
         "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", "1",
         "MODEL.ANCHOR_GENERATOR.SIZES", "[[16], [32], [64]]"],
        ["MODEL.META_ARCHITECTURE", "DeepMIL", "MODEL.RESNETS.OUT_FEATURES", "['res5']"],
        ["MODEL.META_ARCHITECTURE", "GMIC", "MODEL.GMIC.VARIANT", "loc", "MODEL.RESNETS.OUT_FEATURES", "['res5']"],
    ],
    ids=["detector", "deep_mil", "gmic"],
)  # fmt: skip
def test_its_backbone_starts_models_of_whole_images(trained, model):
    path = trained[0] / BACKBONE_WEIGHTS
    weights = torch.load(path, weights_only=True)["model"]
    built = build_model(load_config("", [*NARROW, "DATASETS.CATEGORIES", "['malignant']", *model]))
    checkpointer = SafeCheckpointer(built)
    checkpointer.load(str(path))
    assert len(checkpointer.load_report.loaded) == len(weights) > 100
    assert not checkpointer.load_report.unexpected
    state = built.state_dict()
    for name in ("stem.conv1.weight", "res2.0.conv1.norm.running_mean", "res5.2.conv3.weight"):
        (full,) = (key for key in state if key.endswith(name))
        assert torch.equal(state[full], weights[name])


def test_a_backbone_takes_its_weights_from_model_weights(trained):
    with pytest.raises(ValueError, match=r"NETWORK_WEIGHTS is 'x.pth'; weights of a backbone are MODEL.WEIGHTS"):
        build_model(load_config("", [*NARROW, *PATCHES, "MODEL.LESION.NETWORK_WEIGHTS", "x.pth"]))


def test_a_first_stage_of_another_config(trained, tmp_path, monkeypatch):
    """The patch network is trained on the job's own training images, and its backbone is what the model starts from."""
    folder = trained[0].parent
    two_stages = [
        *("JOB", "TwoStageJob", "MODEL.META_ARCHITECTURE", "DeepMIL", "MODEL.DEEP_MIL.HEAD", "max"),
        *("MODEL.RESNETS.OUT_FEATURES", "['res5']", "SOLVER.MAX_ITER", "1"),
        *(
            "INPUT.SIZE",
            "[64, 64]",
            "SOLVER.BASE_LR",
            "0.0",
            "SOLVER.IMS_PER_BATCH",
            "2",
            "TEST.EVALUATORS",
            "['image']",
        ),
        *("DATASETS.ALLOW_SHARED_PATIENTS", "True", "TEST.BEST_METRIC", "", "TEST.EVAL_PERIOD", "0"),
        *("DATALOADER.SAMPLER_TRAIN", "TrainingSampler", "FIRST_STAGE.CONFIG", str(folder / "job.yaml")),
    ]
    first = [*NARROW, *PATCHES, "TEST.EVALUATORS", "[]"]
    first += ["TEST.BEST_METRIC", "", "TEST.EVAL_PERIOD", "0"]
    run(folder, *NARROW, *two_stages, "FIRST_STAGE.OVERRIDES", str(first), out=str(tmp_path))
    first_cfg = load_config(str(tmp_path / "first_stage/config.yaml"))
    assert (first_cfg.JOB, first_cfg.DATASETS.TRAIN, first_cfg.DATASETS.TEST) == (
        "LesionPatchJob", ("lesions_train",), ()
    )  # fmt: skip
    assert first_cfg.MODEL.LESION.EPOCH == [2, 2, 6, 6]
    start = torch.load(tmp_path / "first_stage" / BACKBONE_WEIGHTS, weights_only=True)["model"]
    result = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    learned = [name for name in start if name.endswith("conv1.weight")]
    assert len(learned) == 17
    for name in learned:
        assert torch.equal(result[f"backbone.{name}"], start[name])
