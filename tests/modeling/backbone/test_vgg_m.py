"""VGG-M: the paper's layers, where its cells lie, stripes without padding, response normalisation by hand."""

import pytest
import torch
import torch.nn.functional as F

from mammo_d2.modeling.backbone.vgg_m import VGGM, _normalized_layer, response_norm
from tests.modeling.conftest import small_vgg


def test_layers_of_the_paper():
    shapes = {name: tuple(p.shape) for name, p in VGGM().named_parameters() if name.endswith("weight")}
    assert shapes == {
        "conv1.weight": (96, 3, 7, 7),
        "conv2.weight": (256, 96, 5, 5),
        "conv3.weight": (512, 256, 3, 3),
        "conv4.weight": (512, 512, 3, 3),
        "conv5.weight": (512, 512, 3, 3),
    }


@pytest.mark.parametrize(("size", "cells"), [((224, 224), (13, 13)), ((336, 240), (20, 14)), ((32, 47), (1, 1))])
def test_map_size(size, cells):
    assert small_vgg()(torch.zeros(1, 1, *size))["conv5"].shape[2:] == cells


def test_cells_lie_where_those_of_the_padded_network_lie():
    """A spot around the pixel (16·4 + 17, 16·6 + 17) has its strongest response in the cell (4, 6)."""
    backbone = small_vgg()
    with torch.no_grad():
        for layer in backbone.children():
            layer.weight.copy_(_peak_like(layer.weight))
    image = torch.zeros(1, 1, 224, 224)
    image[0, 0, 16 * 4 + 17 - 3 : 16 * 4 + 17 + 4, 16 * 6 + 17 - 3 : 16 * 6 + 17 + 4] = 1.0
    response = backbone(image)["conv5"][0].sum(0)
    assert divmod(int(response.argmax()), response.shape[1]) == (4, 6)


@pytest.mark.parametrize("size", [(331, 331), (107 + 32, 107 + 32), (410, 219)])
def test_stripes_equal_the_layers_one_after_another(size):
    backbone = small_vgg()
    x = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0)) * 50
    expected = x
    for conv in (backbone.conv1, backbone.conv2):
        normal = F.local_response_norm(F.relu(conv(expected)), size=5, alpha=5e-4, beta=0.75, k=2.0)
        expected = F.max_pool2d(normal, kernel_size=3, stride=2)
    for conv in (backbone.conv3, backbone.conv4, backbone.conv5):
        expected = F.relu(conv(expected))
    torch.testing.assert_close(backbone.without_padding(x), expected, atol=1e-4, rtol=1e-5)


def test_gradients_of_the_stripes():
    backbone = small_vgg()
    conv = backbone.conv1.double()
    x = torch.randn(1, 1, 47, 19, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grads = []
    for layer in (_normalized_layer, _plain_layer):
        conv.zero_grad()
        layer(conv, x * 50).square().sum().backward()
        grads.append(conv.weight.grad.clone())
    torch.testing.assert_close(*grads)


def test_windows_by_themselves_are_the_published_layers():
    """Sizes of the Caffe model (109, 54, 26, 13) and its arithmetic, layer by layer with torch's own operations."""
    backbone = small_vgg()
    x = torch.randn(3, 1, 224, 224, generator=torch.Generator().manual_seed(0)) * 50
    sizes, expected = [], x
    for conv, padding in ((backbone.conv1, 0), (backbone.conv2, 1)):
        expected = F.conv2d(expected, conv.weight, conv.bias, stride=2, padding=padding)
        sizes.append(expected.shape[-1])
        expected = F.local_response_norm(F.relu(expected), size=5, alpha=5e-4, beta=0.75, k=2.0)
        expected = F.max_pool2d(expected, kernel_size=3, stride=2, ceil_mode=True)
        sizes.append(expected.shape[-1])
    for conv in (backbone.conv3, backbone.conv4, backbone.conv5):
        expected = F.relu(F.conv2d(expected, conv.weight, conv.bias, padding=1))
    assert sizes == [109, 54, 26, 13]
    found = backbone.windows(x)["conv5"]
    assert found.shape == (3, 12, 13, 13)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    # Shared maps see what is around the window: inner cells are equal, those at the border are not.
    shared = backbone(x)["conv5"]
    torch.testing.assert_close(shared[..., 6, 6], expected[..., 6, 6], atol=1e-4, rtol=1e-5)
    assert (shared[..., 0, :] - expected[..., 0, :]).abs().max() > 0.05 * expected.abs().max()


def test_freezing_and_wrong_settings():
    assert [n for n, p in small_vgg(freeze_at=4).named_parameters() if p.requires_grad] == [
        "conv5.weight", "conv5.bias",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="names 2"):
        VGGM(channels=(1, 2))


def _plain_layer(conv, x):
    normal = F.local_response_norm(F.relu(conv(x)), size=5, alpha=5e-4, beta=0.75, k=2.0)
    return F.max_pool2d(normal, kernel_size=3, stride=2)


def test_response_norm_by_hand():
    """Three channels of 100, 200, 0: each sum has all of them, 2 + 1e-4·(1e4 + 4e4) = 7."""
    x = torch.tensor([100.0, 200.0, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
    assert response_norm(x).flatten().tolist() == pytest.approx([100 / 7**0.75, 200 / 7**0.75, 0.0])
    apart = torch.tensor([100.0, 0, 0, 300.0], dtype=torch.float64).view(1, 4, 1, 1)  # three channels apart
    assert response_norm(apart).flatten().tolist() == pytest.approx([100 / 3**0.75, 0, 0, 300 / 11**0.75])
    assert torch.autograd.gradcheck(response_norm, (x.clone().requires_grad_(),))
    half = response_norm(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), response_norm(x), rtol=2**-8, atol=0)


def _peak_like(weight: torch.Tensor) -> torch.Tensor:
    """A positive kernel, highest in its centre."""
    side = weight.shape[-1]
    ramp = 1.0 - (torch.arange(side) - side // 2).abs() / side
    return (ramp[:, None] * ramp).expand_as(weight)
