"""ResNets and the feature pyramid: shapes, strides, freezing, and what the pyramid adds up."""

from typing import Any

import pytest
import torch
from torch import nn

from mammo_d2.framework.embedded.backbone.backbone import BACKBONE_REGISTRY, Backbone, build_backbone
from mammo_d2.framework.embedded.backbone.fpn import FPN
from mammo_d2.framework.embedded.backbone.layers import ShapeSpec
from mammo_d2.framework.embedded.backbone.resnet import (
    BasicBlock,
    BottleneckBlock,
    ResNet,
    build_resnet_backbone,
)
from mammo_d2.framework.embedded.config import CfgNode, get_cfg
from tests.framework import engines
from tests.framework.model_parts import small_fpn


def resnet_config(**keys: Any) -> CfgNode:
    cfg = get_cfg()
    for key, value in {"DEPTH": 18, "RES2_OUT_CHANNELS": 64, "OUT_FEATURES": ["res2", "res5"], **keys}.items():
        cfg.MODEL.RESNETS[key] = value
    return cfg


@pytest.mark.parametrize(
    ("depth", "blocks", "kind"),
    [
        (18, 8, BasicBlock),
        (34, 16, BasicBlock),
        (50, 16, BottleneckBlock),
        (101, 33, BottleneckBlock),
        (152, 50, BottleneckBlock),
    ],
)
def test_depth_counts_the_layers(depth: int, blocks: int, kind: type) -> None:
    # Narrow, to be built quickly; basic blocks cannot be.
    narrow = {"WIDTH_PER_GROUP": 4, "RES2_OUT_CHANNELS": 16} if depth >= 50 else {}
    net = build_resnet_backbone(resnet_config(DEPTH=depth, **narrow), ShapeSpec(channels=3))
    found = [m for m in net.modules() if isinstance(m, kind)]
    assert len(found) == blocks
    # Convolutions in the main path, the stem, and a classifier that is not there.
    assert sum(len([n for n, _ in m.named_children() if n != "shortcut"]) for m in found) + 2 == depth


def test_features_have_the_promised_shapes() -> None:
    net = build_resnet_backbone(resnet_config(OUT_FEATURES=["stem", "res2", "res3", "res5"]), ShapeSpec(channels=1))
    outputs = net(torch.zeros(2, 1, 64, 96))
    promised = net.output_shape()
    assert list(outputs) == list(promised) == ["stem", "res2", "res3", "res5"]
    for name, x in outputs.items():
        stride = promised[name].stride
        assert x.shape == (2, promised[name].channels, 64 // stride, 96 // stride)
    assert [(s.channels, s.stride) for s in promised.values()] == [(64, 4), (64, 4), (128, 8), (512, 32)]


def test_dilation_keeps_the_resolution() -> None:
    keys = {"DEPTH": 50, "RES2_OUT_CHANNELS": 16, "WIDTH_PER_GROUP": 4, "OUT_FEATURES": ["res5"], "RES5_DILATION": 2}
    net = build_resnet_backbone(resnet_config(**keys), ShapeSpec(channels=3))
    assert net.output_shape()["res5"] == ShapeSpec(channels=128, stride=16)
    assert {block.conv2.dilation for block in net.res5} == {(2, 2)}
    assert net(torch.zeros(1, 3, 64, 64))["res5"].shape == (1, 128, 4, 4)


@pytest.mark.parametrize(("freeze_at", "trainable"), [(0, "stem"), (1, "res2"), (2, "res3"), (5, None)])
def test_freezing(freeze_at: int, trainable: str | None) -> None:
    cfg = resnet_config(NORM="BN")
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    net = build_resnet_backbone(cfg, ShapeSpec(channels=3))
    names = [name.split(".")[0] for name, p in net.named_parameters() if p.requires_grad]
    assert (names[0] if names else None) == trainable
    # What is frozen keeps its statistics, also in training.
    kinds = {name.split(".")[0]: type(m).__name__ for name, m in net.named_modules() if name.endswith("norm")}
    order = ["stem", "res2", "res3", "res4", "res5"]
    assert [kinds[name] for name in order] == ["FrozenBatchNorm2d"] * freeze_at + ["BatchNorm2d"] * (5 - freeze_at)


def test_frozen_stages_are_left_out_of_the_graph() -> None:
    net = build_resnet_backbone(resnet_config(OUT_FEATURES=["res2", "res3"]), ShapeSpec(channels=3))
    outputs = net(torch.zeros(1, 3, 32, 32))
    assert not outputs["res2"].requires_grad
    assert outputs["res3"].requires_grad


def test_block_adds_its_shortcut() -> None:
    block = BasicBlock(2, 2, norm="")
    x = torch.rand(1, 2, 5, 5)
    before = x.clone()
    nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(x), x)  # a positive input passes the last ReLU
    assert torch.equal(x, before)
    projecting = BottleneckBlock(2, 4, bottleneck_channels=1, stride=2, norm="")
    nn.init.zeros_(projecting.conv3.weight)
    assert torch.equal(projecting(x), projecting.shortcut(x).relu())
    assert projecting(x).shape == (1, 4, 3, 3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"DEPTH": 20}, "DEPTH is 20"),
        ({"RES2_OUT_CHANNELS": 256}, "RES2_OUT_CHANNELS is 256; ResNet-18 needs 64"),
        ({"NUM_GROUPS": 2}, "NUM_GROUPS is 2"),
        ({"DEPTH": 50, "RES5_DILATION": 4}, "RES5_DILATION is 4"),
        ({"DEPTH": 50, "DEFORM_ON_PER_STAGE": [False, True, False, False]}, "need the detectron2 engine"),
        ({"OUT_FEATURES": ["res6"]}, r"\['res6'\] must be"),
        ({"NORM": "Batch"}, "unknown normalisation 'Batch'"),
    ],
)
def test_impossible_networks_are_refused(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_resnet_backbone(resnet_config(**keys), ShapeSpec(channels=3))


def test_make_stage_checks_lists_per_block() -> None:
    with pytest.raises(ValueError, match="stride_per_block has 2 entries for 3 blocks"):
        ResNet.make_stage(BasicBlock, 3, in_channels=4, out_channels=4, stride_per_block=[1, 1])


class TestFPN:
    def test_levels(self) -> None:
        cfg = resnet_config(OUT_FEATURES=["res2", "res3", "res4", "res5"])
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.FPN.OUT_CHANNELS = 8
        fpn = build_backbone(cfg)
        outputs = fpn(torch.zeros(1, 3, 64, 128))
        assert {name: tuple(x.shape) for name, x in outputs.items()} == {
            "p2": (1, 8, 16, 32), "p3": (1, 8, 8, 16), "p4": (1, 8, 4, 8), "p5": (1, 8, 2, 4), "p6": (1, 8, 1, 2),
        }  # fmt: skip
        assert {name: s.stride for name, s in fpn.output_shape().items()} == {f"p{i}": 2**i for i in range(2, 7)}
        assert fpn.size_divisibility == 32
        assert torch.equal(outputs["p6"], outputs["p5"][..., ::2, ::2])

    @pytest.mark.parametrize(("fuse", "fine"), [("sum", 12.0), ("avg", 6.0)])
    def test_coarse_levels_are_added_to_fine_ones(self, fuse: str, fine: float) -> None:
        fpn = small_fpn(engines.load(engines.EMBEDDED))
        fpn._fuse_type = fuse
        for name, layer in fpn.named_children():
            if name.startswith("fpn_"):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        # Laterals give 5 at stride 4 and 7 at stride 8; outputs copy the first channel.
        nn.init.constant_(fpn.fpn_lateral2.bias, 5)
        nn.init.constant_(fpn.fpn_lateral3.bias, 7)
        for layer in (fpn.fpn_output2, fpn.fpn_output3):
            layer.weight.data[:, 0, 1, 1] = 1
        outputs = fpn(torch.zeros(1, 64, 4, 4))
        assert outputs["p3"].unique().tolist() == [7.0]
        assert outputs["p2"].unique().tolist() == [fine]

    def test_strides_must_double(self) -> None:
        net = build_resnet_backbone(resnet_config(OUT_FEATURES=["res2", "res4"]), ShapeSpec(channels=3))
        with pytest.raises(ValueError, match=r"strides \[4, 16\]"):
            FPN(net, ["res2", "res4"], 8)
        with pytest.raises(ValueError, match="'max'"):
            FPN(net, ["res2"], 8, fuse_type="max")


def test_what_is_registered_must_give_a_backbone() -> None:
    cfg = get_cfg()
    name = "a_function_that_gives_no_backbone"
    if name not in BACKBONE_REGISTRY:
        BACKBONE_REGISTRY._do_register(name, lambda cfg, shape: nn.Identity())
    cfg.MODEL.BACKBONE.NAME = name
    with pytest.raises(TypeError, match="gives a Identity, not a Backbone"):
        build_backbone(cfg)
    cfg.MODEL.BACKBONE.NAME = "no_such_backbone"
    with pytest.raises(KeyError, match="no_such_backbone"):
        build_backbone(cfg)


def test_a_backbone_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Backbone()
