"""Weights of Caffe2's model zoo and of torchvision under our names, in whole models of the engine in use."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

import mammo_d2.framework as framework
from mammo_d2.framework import (
    BACKBONE_REGISTRY,
    SafeCheckpointer,
    ShapeSpec,
    build_model,
    get_cfg,
)
from mammo_d2.framework.weights.weight_names import (
    TORCHVISION_SETTINGS,
    AmbiguousWeightError,
    match_by_ending,
    rename_caffe2,
    rename_torchvision_resnet,
)
from tests.framework import engines, job_cases

ENGINE_PARTS = engines.load(framework.ENGINE)


def small_detector(fpn: bool, **keys: Any) -> torch.nn.Module:
    """A thin Faster R-CNN with the engine's initial weights."""
    return build_model(job_cases.detector_config(framework, fpn, **keys))


def caffe2_name(name: str, fpn: bool) -> str | None:
    """The name Caffe2 gives a parameter of ours, written out by hand; None for running statistics, which it lacks."""
    name, _, kind = name.rpartition(".")
    if kind.startswith("running"):
        return None
    suffix = {"weight": "w", "bias": "b"}[kind]
    if name.endswith(".norm"):
        name, suffix = name.removesuffix(".norm"), {"weight": "bn_s", "bias": "bn_b"}[kind]
    parts = name.split(".")
    stage = next((p for p in parts if p in ("res2", "res3", "res4", "res5")), None)
    if parts[-1] == "conv1" and parts[-2] == "stem":
        return f"conv1_{suffix}" if suffix == "w" else f"res_conv1_{suffix}"
    if stage is not None:
        branch = {"shortcut": "branch1", "conv1": "branch2a", "conv2": "branch2b", "conv3": "branch2c"}[parts[-1]]
        return f"{stage}_{parts[-2]}_{branch}_{suffix}"
    last_block = {"2": 2, "3": 3, "4": 5, "5": 2}
    for ours, theirs in (("fpn_lateral", "fpn_inner_res"), ("fpn_output", "fpn_res")):
        if parts[-1].startswith(ours):
            level = parts[-1].removeprefix(ours)
            lateral = "_lateral" if ours == "fpn_lateral" and level != "5" else ""
            return f"{theirs}{level}_{last_block[level]}_sum{lateral}_{suffix}"
    pyramid = "_fpn2" if fpn else ""
    return {
        "proposal_generator.rpn_head.conv": f"conv_rpn{pyramid}_{suffix}",
        "proposal_generator.rpn_head.objectness_logits": f"rpn_cls_logits{pyramid}_{suffix}",
        "proposal_generator.rpn_head.anchor_deltas": f"rpn_bbox_pred{pyramid}_{suffix}",
        "roi_heads.box_head.fc1": f"fc6_{suffix}",
        "roi_heads.box_head.fc2": f"fc7_{suffix}",
        "roi_heads.box_predictor.cls_score": f"cls_score_{suffix}",
        "roi_heads.box_predictor.bbox_pred": f"bbox_pred_{suffix}",
    }[name]


def random_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A random tensor for each entry of a model's state."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(value.shape, generator=generator) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("fpn", [False, True])
def test_caffe2_detector_fills_every_parameter(tmp_path: Path, fpn: bool) -> None:
    model = small_detector(fpn)
    wanted = random_weights(model)
    blobs = {}
    for name, value in wanted.items():
        theirs = caffe2_name(name, fpn)
        if theirs is None:
            continue
        if theirs.startswith("cls_score"):  # background first
            value = torch.cat([value[-1:], value[:-1]])
        if theirs.startswith("bbox_pred"):  # and with a box
            value = torch.cat([torch.full_like(value[:4], 9.0), value])
        blobs[theirs] = value.numpy()
        blobs[f"{theirs}_momentum"] = np.zeros(1, np.float32)
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps({"blobs": blobs, "cfg": "..."}, protocol=2))

    checkpointer = SafeCheckpointer(model)
    checkpointer.load(str(tmp_path / "model_final.pkl"))
    assert checkpointer.load_report.unexpected == []
    assert all("running" in name for name in checkpointer.load_report.missing)
    by_engine = small_detector(fpn)
    ENGINE_PARTS.DetectionCheckpointer(by_engine).load(
        str(tmp_path / "model_final.pkl")
    )  # with detectron2: its own conversion
    for name, value in wanted.items():
        if "running" not in name:
            assert torch.equal(model.state_dict()[name], value), name
            assert torch.equal(by_engine.state_dict()[name], value), name


def test_imagenet_weights_of_the_model_zoo(tmp_path: Path) -> None:
    model = small_detector(fpn=True)
    wanted = {k: v for k, v in random_weights(model).items() if "bottom_up" in k and "running" not in k}
    blobs = {caffe2_name(name, True): value.numpy() for name, value in wanted.items()}
    blobs["fc1000_w"] = np.zeros((10, 4), np.float32)
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(blobs, protocol=2))
    checkpointer = SafeCheckpointer(model)
    checkpointer.load(str(tmp_path / "R-50.pkl"))
    assert checkpointer.load_report.unexpected == ["fc1000.weight"]
    assert sorted(checkpointer.load_report.loaded) == sorted(wanted)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in wanted.items())


def test_detectron2_zoo_file_is_taken_by_name(tmp_path: Path) -> None:
    model = small_detector(fpn=False)
    wanted = random_weights(model)
    content = {"model": {name: value.numpy() for name, value in wanted.items()}, "__author__": "Detectron2 Model Zoo"}
    content["model"]["proposal_generator.anchor_generator.cell_anchors.0"] = np.zeros((15, 4), np.float32)
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(content))
    checkpointer = SafeCheckpointer(model, strict_weights=True)  # old files hold the anchors: no mismatch
    checkpointer.load(str(tmp_path / "model_final.pkl"))
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("depth", [18, 50])
def test_torchvision_names_fill_a_whole_backbone(depth: int) -> None:
    network = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    renamed = rename_torchvision_resnet(network.state_dict())
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    if depth == 18:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    backbone = _backbone(cfg)
    shapes = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    assert {name: tuple(value.shape) for name, value in renamed.items() if not name.startswith("fc.")} == shapes


def _backbone(cfg: Any) -> torch.nn.Module:
    return BACKBONE_REGISTRY.get("build_resnet_backbone")(cfg, ShapeSpec(channels=3))


def test_torchvision_backbone_computes_the_same(tmp_path: Path) -> None:
    network = torchvision.models.resnet18(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    backbone = _backbone(cfg).eval()
    checkpointer = SafeCheckpointer(backbone)
    checkpointer.load(str(tmp_path / "resnet18.pth"))
    assert checkpointer.load_report.missing == []
    assert sorted(checkpointer.load_report.unexpected) == ["fc.bias", "fc.weight"]
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(image))))
        expected = network.layer4(network.layer3(network.layer2(network.layer1(x))))
        assert torch.allclose(backbone(image)["res5"], expected, atol=1e-4)


def test_torchvision_weights_tell_which_settings_do_not_suit_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = small_detector(fpn=True)
    names = {k.removeprefix("backbone.bottom_up."): v for k, v in random_weights(model).items() if "bottom_up" in k}
    torch.save({_torchvision_name(name): value for name, value in names.items()}, tmp_path / "r50.pth")
    SafeCheckpointer(model).load(str(tmp_path / "r50.pth"))
    for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "MODEL.RESNETS.STRIDE_IN_1X1"):
        assert key in caplog.text

    caplog.clear()
    suited = small_detector(fpn=True, **TORCHVISION_SETTINGS)
    checkpointer = SafeCheckpointer(suited)
    checkpointer.load(str(tmp_path / "r50.pth"))
    assert "weights of torchvision" not in caplog.text
    assert len(checkpointer.load_report.loaded) == len(names)


def _torchvision_name(name: str) -> str:
    """res2.0.conv1.norm.weight -> layer1.0.bn1.weight, by splitting rather than by patterns."""
    parts = name.split(".")
    if parts[0] == "stem":
        return ".".join(["bn1", *parts[3:]] if parts[2] == "norm" else parts[1:])
    head = [f"layer{int(parts[0][3:]) - 1}", parts[1]]
    is_norm = parts[3] == "norm"
    if parts[2] == "shortcut":
        return ".".join([*head, "downsample", "1" if is_norm else "0", parts[-1]])
    return ".".join([*head, parts[2].replace("conv", "bn") if is_norm else parts[2], parts[-1]])


def test_torchvision_overrides_are_config_overrides() -> None:
    cfg = get_cfg()
    cfg.merge_from_list([item for pair in TORCHVISION_SETTINGS.items() for item in pair])
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.12, 57.375]
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is False
    assert cfg.INPUT.FORMAT == "RGB"


def shapes(*names: str) -> dict[str, torch.Size]:
    return {name: torch.Size([1]) for name in names}


def test_longest_ending_wins_and_parts_are_whole() -> None:
    weights = {"conv1": torch.ones(1), "res2.conv1": torch.zeros(1)}
    matched = match_by_ending(shapes("net.conv1", "net.res2.conv1", "net.my_conv1"), weights)
    assert matched == {"net.conv1": weights["conv1"], "net.res2.conv1": weights["res2.conv1"]}


def test_ambiguous_ending_is_an_error() -> None:
    with pytest.raises(AmbiguousWeightError, match=r"conv of the file fits both a\.conv and b\.conv"):
        match_by_ending(shapes("a.conv", "b.conv"), {"conv": torch.ones(1)})


def test_ending_of_another_shape_is_kept_for_the_report() -> None:
    matched = match_by_ending(shapes("a.conv"), {"conv": torch.ones(2), "x": torch.ones(1)})
    assert sorted(matched) == ["a.conv", "x"]


def test_two_blobs_with_one_name_are_an_error() -> None:
    with pytest.raises(AmbiguousWeightError, match="both"):
        rename_caffe2({"conv1_bn_s": torch.ones(1), "res_conv1_bn_s": torch.ones(1)})
