"""The patch network f_loc: convolutional network, global average pooling, bottleneck of 32 neurons, four classes."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torchvision import models

from mammo_d2.core.lesion_classes import PATCH_CLASSES
from mammo_d2.framework import Backbone, CfgNode, ShapeSpec, build_backbone
from mammo_d2.modeling.backbone.preactivation_resnet import BLOCKS, PreactivationResNet
from mammo_d2.modeling.pretrained import load_pretrained, read_pretrained


def _densenet(make: Callable[..., models.DenseNet]) -> tuple[nn.Module, int]:
    network = make(weights=None)
    # torchvision's features end with a normalisation; the ReLU before the pooling is in its forward.
    return nn.Sequential(network.features, nn.ReLU()), network.classifier.in_features


def _resnet(make: Callable[..., models.ResNet]) -> tuple[nn.Module, int]:
    network = make(weights=None)
    channels = network.fc.in_features
    network.avgpool, network.fc = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    return _Maps(network), channels


class _Maps(nn.Module):
    """A torchvision ResNet up to its last maps."""

    def __init__(self, network: models.ResNet):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        net = self.network
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))


class BackboneMaps(nn.Module):
    """A framework backbone up to its last map."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone
        self.feature = list(backbone.output_shape())[-1]

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)[self.feature]


def _preactivation(depth: int) -> tuple[nn.Module, int]:
    network = PreactivationResNet(BLOCKS[depth])
    return network, network.out_channels


#: Names of MODEL.LESION.NETWORK. "resnetv2_*" are the paper's (see ``preactivation_resnet.py``); torchvision's first
#: version is there as well because ImageNet weights of it are.
PATCH_NETWORKS: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "densenet121": lambda: _densenet(models.densenet121),
    "densenet161": lambda: _densenet(models.densenet161),
    "densenet169": lambda: _densenet(models.densenet169),
    "resnetv2_50": lambda: _preactivation(50),
    "resnetv2_101": lambda: _preactivation(101),
    "resnetv2_152": lambda: _preactivation(152),
    "resnet18": lambda: _resnet(models.resnet18),
    "resnet50": lambda: _resnet(models.resnet50),
    "resnet101": lambda: _resnet(models.resnet101),
    "resnet152": lambda: _resnet(models.resnet152),
}


#: The further name: MODEL.BACKBONE, so that its weights can start whole-image models (``backbone_weights``).
BACKBONE = "backbone"


class PatchNetwork(nn.Module):
    """f_loc: patches (N, 1 or channels, S, S) to embeddings h (N, D) and logits (N, 4).

    The bottleneck is linear: h is what the linear classifier sees, and what the embedding maps hold.

    Attributes:
        embedding_size: D.
        channels: of the network's input; patches of one channel are repeated.
    """

    features: nn.Module
    bottleneck: nn.Linear
    classifier: nn.Linear

    def __init__(
        self, name: str = "densenet161", embedding_size: int = 32, weights: str = "", cfg: CfgNode | None = None
    ):
        """
        Args:
            name: a key of ``PATCH_NETWORKS``, or ``BACKBONE``.
            embedding_size: D.
            weights: file with the weights of the torchvision model of that name (its classifier is left out), or of a
                ``resnetv2``'s feature maps (see ``convert_resnetv2.py``); empty: random.
            cfg: describes the backbone (MODEL.BACKBONE and MODEL.PIXEL_MEAN, one number per channel); needed for it.

        Raises:
            ValueError: an unknown name, or weights that do not fit.
            FileNotFoundError: no such file.
        """
        super().__init__()
        if name not in (*PATCH_NETWORKS, BACKBONE):
            raise ValueError(f"MODEL.LESION.NETWORK is {name!r}; use one of {', '.join(PATCH_NETWORKS)}, {BACKBONE}")
        self.channels = 3
        if name == BACKBONE:
            assert cfg is not None, "a backbone needs its config"
            if weights:
                raise ValueError(
                    f"MODEL.LESION.NETWORK_WEIGHTS is {weights!r}; weights of a backbone are MODEL.WEIGHTS"
                )
            self.channels = len(cfg.MODEL.PIXEL_MEAN)
            backbone = build_backbone(cfg, ShapeSpec(channels=self.channels))
            self.features = BackboneMaps(backbone)
            channels = backbone.output_shape()[self.features.feature].channels
            assert channels is not None
        else:
            self.features, channels = PATCH_NETWORKS[name]()
        self.bottleneck = nn.Linear(channels, embedding_size)
        self.classifier = nn.Linear(embedding_size, len(PATCH_CLASSES))
        self.embedding_size = embedding_size
        if weights:
            key = "MODEL.LESION.NETWORK_WEIGHTS"
            load_pretrained(self.features, rename_pretrained(read_pretrained(weights, key), name), weights, key, name)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        patches = patches.expand(-1, self.channels, -1, -1)
        embeddings = self.bottleneck(self.features(patches).mean(dim=(2, 3)))
        return embeddings, self.classifier(embeddings)

    def backbone_weights(self) -> dict[str, Tensor]:
        """Weights of the backbone by their names in it.

        Raises:
            TypeError: the network is no backbone of the framework.
        """
        if not isinstance(self.features, BackboneMaps):
            raise TypeError(f"the patch network is no backbone; set MODEL.LESION.NETWORK {BACKBONE}")
        return self.features.backbone.state_dict()


def rename_pretrained(weights: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Names of torchvision's files to those of the feature maps; classifiers are left out."""
    renamed = {}
    for key, value in weights.items():
        if key.startswith(("classifier.", "fc.")):
            continue
        if name.startswith("densenet"):
            # The published files have a dot that today's modules have not: norm.1 is norm1.
            key = "0." + re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key.removeprefix("features."))
        elif name.startswith("resnet") and not name.startswith("resnetv2"):
            key = "network." + key
        renamed[key] = value
    return renamed
