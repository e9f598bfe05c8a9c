"""Region encoders: a region's code from the shared map is that of the region by itself."""

import pytest
import torch
import torch.nn.functional as F

from mammo_d2.framework import ShapeSpec
from mammo_d2.modeling.backbone.vgg_m import SURROUNDINGS
from mammo_d2.modeling.roi_heads.region_encoders import PooledRegionEncoder, VGGMRegionEncoder, build_region_encoder
from tests.modeling.conftest import small_vgg


class TestVGGMRegionEncoder:
    def test_shared_map_equals_each_window_by_itself(self):
        """The stated accuracy is 1e-4; overlapping windows, at the image's borders and inside."""
        backbone = small_vgg()
        torch.manual_seed(1)
        encoder = VGGMRegionEncoder(12, (20, 7)).eval()
        image = torch.randn(1, 1, 336, 448)
        corners = [(0, 0), (112, 0), (112, 112), (224, 112), (32, 80)]
        boxes = torch.tensor([[x, y, x + 224.0, y + 224.0] for x, y in corners])
        shared = encoder(backbone(image)["conv5"], [boxes])

        padded, side = F.pad(image, SURROUNDINGS * 2), 224 + sum(SURROUNDINGS)
        alone = []
        for x, y in corners:
            cells = backbone.without_padding(padded[:, :, y : y + side, x : x + side])
            assert cells.shape == (1, 12, 13, 13)
            pooled = F.max_pool2d(cells, 3, 2).flatten(1)
            alone.append(F.relu(encoder.fc7(F.relu(encoder.fc6(pooled)))))
        assert shared.abs().max() > 0.1
        torch.testing.assert_close(shared, torch.cat(alone), atol=1e-4, rtol=1e-4)

    def test_cells_of_a_window_are_a_part_of_the_map(self):
        features = torch.randn(2, 3, 20, 27, generator=torch.Generator().manual_seed(0))
        boxes = [torch.tensor([[112.0, 32.0, 336.0, 256.0]]), torch.tensor([[0.0, 0.0, 224.0, 224.0]])]
        cells = VGGMRegionEncoder.cells(features, boxes)
        torch.testing.assert_close(cells[0], features[0, :, 2:15, 7:20])
        torch.testing.assert_close(cells[1], features[1, :, :13, :13])

    def test_another_window_size_samples_the_same_parts_of_its_side(self):
        # A map that holds each cell's own centre: x = 16 j + 17. Cells of a window of 112 lie at half the distances.
        centres = (torch.arange(27.0) * 16 + 17).expand(1, 1, 20, 27)
        cells = VGGMRegionEncoder.cells(centres, [torch.tensor([[64.0, 64.0, 176.0, 176.0]])])
        expected = 64 + (torch.arange(13) * 16 + 17) / 2
        torch.testing.assert_close(cells[0, 0, 0], expected)

    def test_half_precision_features_keep_exact_coordinates(self):
        features = torch.randn(1, 2, 180, 20, generator=torch.Generator().manual_seed(0)).bfloat16()
        cells = VGGMRegionEncoder.cells(features, [torch.tensor([[16.0, 2640.0, 240.0, 2864.0]])])
        assert torch.equal(cells[0], features[0, :, 165:178, 1:14].float())

    def test_images_without_regions(self):
        encoder = VGGMRegionEncoder(4, (5, 3))
        assert encoder(torch.randn(1, 4, 13, 13), [torch.zeros(0, 4)]).shape == (0, 3)


class TestPooledRegionEncoder:
    def test_the_highest_value_inside_the_region(self):
        features = torch.zeros(2, 1, 8, 8)
        features[0, 0, 2, 2] = 5.0
        features[1, 0, 6, 6] = 3.0
        box = torch.tensor([[32.0, 32.0, 48.0, 48.0]])  # the cell (2, 2) of stride 16
        encoder = PooledRegionEncoder(1, 16, resolution=1, centre=8.0)
        assert encoder(features, [box, box]).flatten().tolist() == pytest.approx([5.0 * 0.5625, 0.0])
        assert PooledRegionEncoder(1, 16, resolution=7)(features, [box * 0, box]).flatten()[1].item() == 0.0

    def test_regions_lie_where_the_network_looked(self):
        """Cell (2, 2) is centred at 2.5 + 2·16 pixels; one sample of a box around it is the cell's value."""
        features = torch.zeros(1, 1, 8, 8)
        features[0, 0, 2, 2] = 5.0
        encoder = PooledRegionEncoder(1, 16, resolution=1, centre=2.5)
        around = torch.tensor([[26.5, 26.5, 42.5, 42.5], [34.5, 26.5, 50.5, 42.5]])
        # roi_align's 2×2 samples lie a quarter of a cell off the centre: (3/4)²; half a cell right: (3/4, 1/4) · 3/4
        assert encoder(features, [around]).flatten().tolist() == pytest.approx([5 * 0.5625, 5 * 0.375])

    def test_settings_are_part_of_the_description(self):
        """The feature cache tells settings apart by it."""
        assert repr(PooledRegionEncoder(1, 16)) != repr(PooledRegionEncoder(1, 8))
        assert repr(PooledRegionEncoder(1, 16)) != repr(PooledRegionEncoder(1, 16, centre=8.0))


def test_unfit_encoders_are_refused(make_cfg):
    cfg = make_cfg("FPN")
    cfg.MODEL.DUAL_BRANCH.REGION_ENCODER = "VGGMRegionEncoder"
    with pytest.raises(ValueError, match="stride 8; use PooledRegionEncoder"):
        build_region_encoder(cfg, ShapeSpec(channels=4, stride=8))
    cfg.MODEL.DUAL_BRANCH.REGION_ENCODER = "Nothing"
    with pytest.raises(ValueError, match="use one of PooledRegionEncoder, VGGMRegionEncoder"):
        build_region_encoder(cfg, ShapeSpec(channels=4, stride=16))
