import pytest
import torch
from torch import nn

from mammo_d2.framework import ShapeSpec
from mammo_d2.modeling.backbone import AlexNet
from mammo_d2.modeling.backbone.vgg_m import VGGM
from mammo_d2.modeling.layers.receptive_field import (
    PIXELS,
    MapShape,
    Reach,
    cover_image,
    first_centre,
    reach_of,
    shown_part,
    shown_parts,
)
from tests.modeling.gmic_models import gmic_model


def seen_pixels(network, cell: int, side: int) -> list[int]:
    """First and last pixel along an axis that cell (cell, cell) of a network's map depends on, everything positive."""
    for parameter in network.parameters():
        parameter.data = torch.full_like(parameter, 0.01)
    image = torch.ones(1, 1, side, side, requires_grad=True)
    found = network(image)
    value = next(iter(found.values())) if isinstance(found, dict) else found
    (gradient,) = torch.autograd.grad(value[0, 0, cell, cell], image)
    rows = gradient[0, 0].sum(dim=1).nonzero().flatten()
    return [int(rows[0]), int(rows[-1])]


class TestReach:
    def test_two_layers(self):
        # stride 2 and 3 wide, then 5 wide: output j sees 2 (j ± 2) ± 1
        assert Reach(2, 1, 1).then(Reach(1, 2, 2)) == Reach(2, 5, 5)
        assert Reach(2, 3, 3).then(Reach(2, 0, 2)) == Reach(4, 3, 7)

    def test_first_centre(self):
        assert Reach(1, 0, 0).first_centre == 0.5  # a pixel
        assert Reach(2, 1, 1).first_centre == 0.5  # 3 wide, symmetrical padding: the first pixel
        assert Reach(2, 0, 1).first_centre == 1.0  # 2 wide without padding: between the first two
        assert Reach(4, 3, 7).first_centre == 2.5

    def test_of_layers(self):
        layers = nn.Sequential(
            nn.Conv2d(1, 1, 5, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3, dilation=2)
        )
        # 2 j - 1 ... 2 j + 3; then 2 and stride 2: 4 j - 1 ... 4 j + 5; then ±0, 2, 4 cells of 4: 4 j - 1 ... 4 j + 21
        assert reach_of(layers) == Reach(4, 1, 21)
        assert reach_of([]) == Reach(1, 0, 0)

    def test_is_what_a_network_sees(self):
        layers = nn.Sequential(nn.Conv2d(1, 1, 5, 2, 1), nn.Conv2d(1, 1, 4, 3), nn.Conv2d(1, 1, 3, padding=1))
        reach = reach_of(layers)
        assert seen_pixels(layers, 3, 64) == [3 * reach.stride - reach.before, 3 * reach.stride + reach.after]


def test_shown_parts():
    maps = torch.arange(24.0).reshape(2, 1, 3, 4)
    shape = MapShape(channels=1, stride=10, first_centre=3.0)
    # centres at 3, 13, 23, 33 pixels
    assert torch.equal(shown_parts(maps, shape, [(30, 40)] * 2)[0], maps)
    both = shown_parts(maps, shape, [(23, 24), (30, 13)])
    assert [one.tolist() for one in both] == [
        [[[[0, 1, 2], [4, 5, 6]]]],
        [[[[12], [16], [20]]]],
    ]
    (together,) = shown_parts(maps, shape, [(2, 24)] * 2)
    assert together.shape == (2, 1, 1, 3)
    (pixels,) = shown_parts(maps, PIXELS, [(2, 3)] * 2)
    assert torch.equal(pixels, maps[:, :, :2, :3])


class TestBackbones:
    def test_resnet22(self):
        """7 wide, stride 2, padding 3: pixel 2 i; pooling 3 without padding: 4 i + 2; then symmetrical layers."""
        backbone = gmic_model("MODEL.RESNET22.STRIDES", [1, 2, 1, 1, 1]).backbone
        shape = backbone.output_shape()["res22"]
        assert (shape.stride, first_centre(shape)) == (8, 2.5)
        backbone.pool = nn.AvgPool2d(3, stride=2)  # maximum pooling of equal pixels sees the first of them only
        first, last = seen_pixels(backbone.eval(), 30, 480)
        assert (first + last + 1) / 2 == 30 * 8 + 2.5

    def test_alexnet(self):
        """11 wide, stride 4, padding 2: pixel 4 i + 3; three poolings of 3: 8 i + 7, 16 i + 15, 32 i + 31."""
        shape = AlexNet().output_shape()["pool5"]
        assert (shape.stride, first_centre(shape)) == (32, 31.5)

    def test_vgg_m(self):
        """7 wide: 2 i + 3, pooling 4 i + 5, 5 wide 8 i + 13, pooling 16 i + 21, three of 3 + 48; 52 of padding."""
        assert first_centre(VGGM().output_shape()["conv5"]) == 3 + 2 + 8 + 8 + 48 - 52 + 0.5

    def test_others(self):
        assert first_centre(ShapeSpec(channels=1, stride=32)) == 0.5


class TestCoverImage:
    def test_aligned_map_is_only_divided(self):
        maps = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
        found = cover_image(maps, MapShape(stride=8, first_centre=4.0), (8, 16))
        assert found.shape == (2, 4, 8)
        assert found[0].tolist() == [[1.0] * 4 + [2.0] * 4] * 4
        assert found[1].tolist() == [[3.0] * 4 + [4.0] * 4] * 4

    def test_cells_lie_where_the_network_looked(self):
        """Centres at 0.5, 16.5, 32.5: borders at 8.5 and 24.5, to the nearest 4 pixels 8 and 24."""
        found = cover_image(torch.tensor([[[1.0, 2.0, 3.0]]]), MapShape(stride=16), (16, 48))
        assert found[0, 0].tolist() == [1.0] * 2 + [2.0] * 4 + [3.0] * 6

    def test_padding_is_left_out(self):
        """Borders at 4, 12, ...; the image ends at 10 of 32 pixels: 5 cells of 2 pixels."""
        found = cover_image(torch.arange(4.0).view(1, 1, 4), MapShape(stride=8, first_centre=0.0), (8, 10))
        assert found[0, 0].tolist() == [0.0] * 2 + [1.0] * 3

    def test_map_larger_than_its_cells(self):
        """AlexNet's cells end 20 pixels before a 227 pixel image does: the last one reaches to the border."""
        found = cover_image(torch.arange(6.0).view(1, 1, 6), MapShape(stride=32, first_centre=31.5), (32, 227))
        assert found.shape[2] == 28
        # borders at 47.5 + 32 i; cells of 8.1 pixels centred at 4.05 + 8.1 j
        assert found[0, 0].tolist() == [0.0] * 6 + [1.0] * 4 + [2.0] * 4 + [3.0] * 4 + [4.0] * 4 + [5.0] * 6

    @pytest.mark.parametrize("size", [(1, 1), (3, 200)])
    def test_small_images(self, size):
        found = cover_image(torch.zeros(1, 1, 7), MapShape(stride=32), size)
        assert found.shape == (1, max(1, round(size[0] / 8)), max(1, round(size[1] / 8)))


def test_cells_over_padding_are_not_shown():
    """Centres at 8, 24, 40, 56: an image of 41 columns ends after the third, one of 5 rows before the first."""
    maps = torch.arange(8.0).view(1, 2, 4)
    assert shown_part(maps, MapShape(stride=16, first_centre=8.0), (5, 41)).tolist() == [[[0.0, 1.0, 2.0]]]
