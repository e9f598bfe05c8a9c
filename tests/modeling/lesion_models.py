"""Small lesion classifiers and their inputs for tests."""

import torch
from torch import nn

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import build_model, get_cfg


class Mean(nn.Module):
    """Two maps of a patch: itself, and its negative."""

    def forward(self, patches):
        return torch.cat([patches[:, :1], -patches[:, :1]], dim=1)


def lesion_model(name="LesionContextClassifier", *overrides):
    cfg = get_cfg()
    add_mammo_config(cfg)
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.META_ARCHITECTURE": name,
        "MODEL.PIXEL_MEAN": [10.0],
        "MODEL.PIXEL_STD": [2.0],
        "MODEL.LESION.NETWORK": "mean",
        "MODEL.LESION.EMBEDDING": 3,
        "MODEL.LESION.MAP_SIZE": [4, 3],
        "MODEL.LESION.EPOCH": [1, 1, 1, 1],
    }
    settings.update(zip(overrides[::2], overrides[1::2], strict=True))
    cfg.merge_from_list([item for pair in settings.items() for item in pair])
    torch.manual_seed(0)
    return build_model(cfg)


def lesion_patch(kind=0, **more):
    return {
        "patch_class": kind,
        "image": torch.full((1, 8, 8), 14.0),
        "embedding": torch.tensor([1.0, 2.0, 3.0]),
        "window": torch.tensor([0.0, 0.0, 20.0, 20.0]),
        "image_size": torch.tensor([40, 60]),
        "saliency": torch.rand(2, 4, 3),
        **more,
    }


def lesion_image(counts=(3, 2), **more):
    number = sum(counts)
    return {
        "image_id": 4,
        "patches": torch.rand(number, 1, 8, 8) * 255,
        "windows": torch.tensor([[0.0, 0.0, 20.0, 20.0]]).repeat(number, 1),
        "window_lesion": torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64)),
        "num_lesions": len(counts),
        "image_size": torch.tensor([40, 60]),
        "saliency": torch.rand(2, 4, 3),
        **more,
    }
