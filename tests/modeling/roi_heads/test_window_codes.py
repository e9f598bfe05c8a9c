"""Windows encoded one by one: what is cut out, and that nothing around a window changes its code."""

import torch
import torch.nn.functional as F

from mammo_d2.modeling.roi_heads.region_encoders import VGGMRegionEncoder
from mammo_d2.modeling.roi_heads.window_codes import WINDOWS_ON_CPU, cut_windows, window_codes
from tests.modeling.conftest import small_vgg


def test_windows_at_whole_pixels_are_cut_out_exactly():
    image = torch.randn(2, 50, 70, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0], [38.0, 18.0, 70.0, 50.0], [5.0, 7.0, 37.0, 39.0]])
    windows = cut_windows(image, boxes, 32)
    expected = [image[:, :32, :32], image[:, 18:50, 38:70], image[:, 7:39, 5:37]]
    assert torch.equal(windows, torch.stack(expected))


def test_other_sizes_are_resized():
    image = torch.arange(64.0).expand(1, 64, 64)
    (half,) = cut_windows(image, torch.tensor([[16.0, 16.0, 32.0, 32.0]]), 32)
    assert torch.allclose(half[0, 4], 16 + (torch.arange(32) + 0.5) / 2 - 0.5)


def test_codes_are_those_of_the_window_alone():
    """As published: the network and the encoder on each 224x224 crop; more windows than fit into one part."""
    backbone = small_vgg()
    torch.manual_seed(1)
    encoder = VGGMRegionEncoder(12, (20, 7)).eval()
    image = torch.randn(1, 448, 560) * 30
    corners = [(x, y) for y in (0, 112, 224) for x in (0, 112, 224, 336)]
    assert len(corners) > WINDOWS_ON_CPU
    boxes = torch.tensor([[x, y, x + 224.0, y + 224.0] for x, y in corners])
    with torch.no_grad():
        found = window_codes(backbone, encoder, "conv5", image, boxes, 224)
        crops = torch.stack([image[:, y : y + 224, x : x + 224] for x, y in corners])
        pooled = F.max_pool2d(backbone.windows(crops)["conv5"], 3, 2).flatten(1)
        expected = F.relu(encoder.fc7(F.relu(encoder.fc6(pooled))))
        shared = encoder(backbone(image[None])["conv5"], [boxes])
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (shared - expected).abs().max() > 0.05 * expected.abs().max()
