"""Small detectors run on an engine, given as a namespace (``engines.py``), and the numbers they give.

Weights and images follow from a formula, so that nothing but results needs storing: those of the real detectron2 are in
golden/model_*.json, written by make_golden.py.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.framework.engines import Engine

GOLDEN = Path(__file__).parent / "golden"

# Keys of every case: few proposals and narrow fully connected layers, to be quick.
COMMON: dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "MODEL.PIXEL_STD": [57.375, 57.120, 58.395],
    "MODEL.ROI_HEADS.NUM_CLASSES": 2,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.3,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 120,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 60,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 80,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 30,
    "TEST.DETECTIONS_PER_IMAGE": 10,
}
R18 = {"MODEL.RESNETS.DEPTH": 18, "MODEL.RESNETS.RES2_OUT_CHANNELS": 64}
NARROW = {"MODEL.RESNETS.RES2_OUT_CHANNELS": 64, "MODEL.RESNETS.WIDTH_PER_GROUP": 16}
FPN: dict[str, Any] = {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16], [32], [64], [128], [256]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 64,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
}
C4: dict[str, Any] = {"MODEL.ANCHOR_GENERATOR.SIZES": [[16, 32, 64]], "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 6}
DC5: dict[str, Any] = {
    **{k: v for k, v in FPN.items() if "FPN" not in k and "BACKBONE" not in k},
    "MODEL.RESNETS.OUT_FEATURES": ["res5"],
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64]],
    "MODEL.RPN.IN_FEATURES": ["res5"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
}

# The six forms that the parity goal names, and then one case for every other key that changes a number.
CASES: dict[str, dict[str, Any]] = {
    "fpn_18": {**FPN, **R18},
    "fpn_50_stride_in_1x1": {**FPN, "MODEL.RESNETS.STRIDE_IN_1X1": True},
    "fpn_50_stride_in_3x3": {**FPN, "MODEL.RESNETS.STRIDE_IN_1X1": False},
    "c4_18": {**C4, **R18},
    "c4_50_stride_in_1x1": {**C4, "MODEL.RESNETS.STRIDE_IN_1X1": True},
    "c4_50_stride_in_3x3": {**C4, "MODEL.RESNETS.STRIDE_IN_1X1": False},
    "dc5_50_one_channel": {
        **DC5, **NARROW, "MODEL.PIXEL_MEAN": [110.0], "MODEL.PIXEL_STD": [60.0],
        "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": False,
    },
    "resnext_50_c4": {
        **C4, **NARROW, "MODEL.RESNETS.NUM_GROUPS": 4, "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.1,
    },
    "batch_norm_frozen_stem": {
        **FPN, **R18, "MODEL.RESNETS.NORM": "BN", "MODEL.BACKBONE.FREEZE_AT": 1, "MODEL.FPN.NORM": "BN",
    },
    "group_norm": {
        **FPN, **R18, "MODEL.RESNETS.NORM": "GN", "MODEL.BACKBONE.FREEZE_AT": 0, "MODEL.FPN.NORM": "GN",
        "MODEL.ROI_BOX_HEAD.NUM_CONV": 1, "MODEL.ROI_BOX_HEAD.CONV_DIM": 32, "MODEL.ROI_BOX_HEAD.NORM": "GN",
    },
    "giou_class_agnostic": {
        **FPN, **R18, "MODEL.RPN.BBOX_REG_LOSS_TYPE": "giou", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "giou",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True, "MODEL.FPN.FUSE_TYPE": "avg",
        "MODEL.ANCHOR_GENERATOR.OFFSET": 0.5,
    },
    "diou_and_ciou_weighted": {
        **FPN, **R18, "MODEL.RPN.BBOX_REG_LOSS_TYPE": "diou", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE": "ciou",
        "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 2.0, "MODEL.RPN.LOSS_WEIGHT": 0.5,
        "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 3.0,
    },
    "other_options": {
        **FPN, **R18, "MODEL.RPN.SMOOTH_L1_BETA": 0.2, "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0,
        "MODEL.RPN.CONV_DIMS": [32, -1], "MODEL.RPN.BOUNDARY_THRESH": 4, "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 8,
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign", "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
        "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": True, "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True,
    },
}  # fmt: skip

# Per image of a batch: (height, width) and ground truth as XYXY boxes. Odd sizes; images without any ground truth.
BATCHES: dict[str, list[tuple[tuple[int, int], list[list[float]]]]] = {
    "positive_and_negative": [((97, 131), [[10, 12, 60, 50], [30, 40, 55, 60.5]]), ((120, 64), [])],
    "only_negatives": [((64, 64), []), ((97, 71), [])],
    "one_image": [((65, 111), [[3, 5, 70, 60]])],
}
_CLASSES = (0, 1)


def config(engine: Engine, case: str) -> Any:
    """The config of a case."""
    cfg = engine.get_cfg()
    for key, value in {**COMMON, **CASES[case]}.items():
        node, _, last = key.rpartition(".")
        parent = cfg
        for part in node.split("."):
            parent = parent[part]
        parent[last] = value
    return cfg


def uniform(name: str, shape: Sequence[int]) -> np.ndarray:
    """Numbers in [0, 1) that depend on the name and the position only: a hash, exact on every machine."""
    count = int(np.prod(shape, dtype=np.int64))
    x = np.arange(count, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 8)
    mask = np.uint64(0xFFFFFFFF)
    for factor in (0x7FEB352D, 0x846CA68B):
        x ^= x >> np.uint64(16)
        x = (x * np.uint64(factor)) & mask
    x ^= x >> np.uint64(15)
    return (x / 2.0**32).reshape(shape)


def fill(model: nn.Module) -> None:
    """Set weights that keep activations near 1, so that nothing saturates, and scores that differ clearly."""
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        u = uniform(name, tensor.shape)
        if name.endswith("running_var"):
            values = 0.8 + 0.4 * u
        elif name.endswith(("norm.weight", "running_mean")):
            values = (0.4 + 0.4 * u) if name.endswith("weight") else 0.2 * (u - 0.5)
        elif tensor.dim() == 1:
            values = 0.2 * (u - 0.5)
        else:
            gains = {"cls_score": 3.0, "bbox_pred": 0.3, "anchor_deltas": 0.3, "fpn_lateral": 0.5}
            gain = next((gain for part, gain in gains.items() if part in name), 1.4)
            values = gain * (3.0 / np.prod(tensor.shape[1:])) ** 0.5 * (2 * u - 1)
        tensor.copy_(torch.from_numpy(values.astype(np.float32)))


def build(engine: Engine, case: str) -> nn.Module:
    """The model of a case with the formula's weights."""
    model = engine.build_model(config(engine, case))
    fill(model)
    return model


def inputs(engine: Engine, batch: str, channels: int) -> list[dict]:
    """A batch; detections are asked for in images of twice the height."""
    result = []
    for i, ((height, width), boxes) in enumerate(BATCHES[batch]):
        image = np.floor(256 * uniform(f"{batch}{i}", (channels, height, width))).astype(np.float32)
        truth = engine.Instances(
            (height, width),
            gt_boxes=engine.Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
            gt_classes=torch.tensor(_CLASSES[: len(boxes)], dtype=torch.int64),
        )
        result.append({"image": torch.from_numpy(image), "instances": truth, "height": 2 * height, "width": width})
    return result


def training_numbers(engine: Engine, model: nn.Module, batch: str) -> dict[str, Any]:
    """Losses, logged scalars, and the norm of the gradient of some parameters, for one batch."""
    model.train()
    model.zero_grad()
    with engine.EventStorage(0) as storage:
        torch.manual_seed(7)
        losses = model(inputs(engine, batch, len(model.pixel_mean)))
        sum(losses.values()).backward()
        scalars = {name: value for name, (value, _) in sorted(storage.latest().items())}
    with_gradient = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    return {
        "losses": {name: loss.item() for name, loss in losses.items()},
        "scalars": scalars,
        "with_gradient": len(with_gradient),
        "gradient_norms": {name: p.grad.norm().item() for name, p in with_gradient[:: max(len(with_gradient) // 8, 1)]},
    }


@torch.no_grad()
def inference_numbers(engine: Engine, model: nn.Module, batch: str) -> dict[str, Any]:
    """Anchors, features, proposals and detections of one batch."""
    model.eval()
    batched = inputs(engine, batch, len(model.pixel_mean))
    images = model.preprocess_image(batched)
    features = model.backbone(images.tensor)
    anchors = model.proposal_generator.anchor_generator([features[f] for f in model.proposal_generator.in_features])
    proposals, _ = model.proposal_generator(images, features, None)
    return {
        "features": {name: [list(x.shape), x.mean().item(), x.abs().mean().item()] for name, x in features.items()},
        "anchors": [[len(a), a.tensor[0].tolist(), a.tensor[-1].tolist()] for a in anchors],
        "proposals": [
            [len(p), p.proposal_boxes.tensor[:8].tolist(), p.objectness_logits[:8].tolist()] for p in proposals
        ],
        "detections": [
            [list(x.image_size), x.pred_boxes.tensor.tolist(), x.scores.tolist(), x.pred_classes.tolist()]
            for x in (output["instances"] for output in model(batched))
        ],
    }


def parameters(model: nn.Module) -> list:
    """Every key of the state dict with its shape, in order."""
    return [[name, list(tensor.shape)] for name, tensor in model.state_dict().items()]


def compute(engine: Engine, case: str) -> dict[str, Any]:
    """All numbers of a case."""
    model = build(engine, case)
    return {
        "state_dict": [len(parameters(model)), zlib.crc32(json.dumps(parameters(model)).encode())],
        # Inference first: training changes the statistics of batch normalisation.
        "inference": {batch: inference_numbers(engine, model, batch) for batch in BATCHES},
        "training": {batch: training_numbers(engine, model, batch) for batch in BATCHES},
    }


def golden(case: str) -> dict[str, Any]:
    """The committed numbers."""
    return json.loads((GOLDEN / f"model_{case}.json").read_text())
