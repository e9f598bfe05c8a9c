"""ROIAlign as a sparse product: by hand, and against torchvision's kernels, values and gradients."""

import pytest
import torch
from torchvision.ops import roi_align

from mammo_d2.framework.embedded.backbone.layers import ROIAlign
from mammo_d2.framework.embedded.detector import roi_align as module
from mammo_d2.framework.embedded.detector.roi_align import sparse_roi_align


def pool(features, rois: torch.Tensor, size: tuple[int, int], scale: float, aligned: bool = True) -> torch.Tensor:
    """From one map."""
    return sparse_roi_align([features], rois, torch.zeros(len(rois), dtype=torch.int64), size, [scale], aligned)


def regions(count: int, images: int) -> torch.Tensor:
    """Regions of all shapes, many reaching beyond a map of 13 x 21 cells of 16 pixels; then special ones."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([400.0, 260]) - 40
    size = torch.exp(torch.randn(count, 2, generator=generator) * 1.5 + 3.5)
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    special = [
        [10.0, 10, 10, 30],  # no width
        [20, 20, 10, 10],  # corners exchanged
        [0, 0, 336, 208],  # the whole map
        [-500, -500, -400, -400],  # nowhere near
        [16, 16, 128, 128],  # samples exactly on cells
        [0, 5, 336, 9],  # wide and flat
    ]
    boxes = torch.cat([boxes, torch.tensor(special)])
    return torch.cat([torch.randint(0, images, (len(boxes), 1), generator=generator).float(), boxes], dim=1)


def test_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2], [3, 4]]]], requires_grad=True)
    # One bin over the whole map has 2 x 2 samples, one in the middle of each cell.
    pooled = pool(features, torch.tensor([[0.0, 0, 0, 2, 2]]), (1, 1), 1.0)
    assert pooled.tolist() == [[[[2.5]]]]
    # One cell wide, shifted by half a cell: one sample between the four cells, at three quarters of the way down.
    shifted = pool(features, torch.tensor([[0.0, 0.5, 0.75, 1.5, 1.75]]), (1, 1), 1.0)
    assert shifted.item() == pytest.approx(0.25 * 1.5 + 0.75 * 3.5)
    shifted.backward()
    assert features.grad.tolist() == [[[[0.125, 0.125], [0.375, 0.375]]]]


@pytest.mark.parametrize("weights_at_a_time", [1 << 20, 50])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size", [(7, 7), (1, 3)])
def test_agrees_with_torchvision(monkeypatch, weights_at_a_time, channels_last, aligned, size) -> None:
    monkeypatch.setattr(module, "_WEIGHTS_AT_A_TIME", weights_at_a_time)
    features = torch.randn(3, 5, 13, 21, generator=torch.Generator().manual_seed(1))
    if channels_last:
        features = features.contiguous(memory_format=torch.channels_last)
    features.requires_grad_()
    rois = regions(60, 3)
    expected = roi_align(features, rois, size, 1 / 16, 0, aligned)
    actual = pool(features, rois, size, 1 / 16, aligned)
    assert torch.allclose(actual, expected, rtol=0, atol=1e-6)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    (expected_gradient,) = torch.autograd.grad(expected, features, weight)
    (gradient,) = torch.autograd.grad(actual, features, weight)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    # In the memory order of the map, so that adding it to other gradients is cheap.
    assert gradient.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@pytest.mark.parametrize("weights_at_a_time", [1 << 20, 50])
def test_several_maps_agree_with_pooling_each_by_itself(monkeypatch, weights_at_a_time) -> None:
    monkeypatch.setattr(module, "_WEIGHTS_AT_A_TIME", weights_at_a_time)
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 4, h, w, generator=generator, requires_grad=True) for h, w in ((26, 42), (13, 21), (7, 11))]
    rois, scales = regions(60, 2), [1 / 8, 1 / 16, 1 / 32]
    levels = torch.arange(len(rois)) % 3
    pooled = sparse_roi_align(maps, rois, levels, (3, 3), scales, True)
    expected = torch.zeros_like(pooled)
    for level, (features, scale) in enumerate(zip(maps, scales, strict=True)):
        expected[levels == level] = roi_align(features, rois[levels == level], (3, 3), scale, 0, True)
    assert torch.allclose(pooled, expected, rtol=0, atol=1e-6)
    weight = torch.randn(pooled.shape, generator=generator)
    gradients = torch.autograd.grad(pooled, maps, weight)
    for gradient, want in zip(gradients, torch.autograd.grad(expected, maps, weight), strict=True):
        assert torch.allclose(gradient, want, rtol=1e-5, atol=1e-6)


def test_no_regions() -> None:
    features = torch.randn(2, 4, 5, 5, requires_grad=True)
    pooled = pool(features, torch.zeros(0, 5), (7, 7), 0.25)
    pooled.sum().backward()
    assert pooled.shape == (0, 4, 7, 7)
    assert features.grad.abs().sum() == 0


def test_bfloat16_maps_do_not_round_the_regions() -> None:
    # In bfloat16, 301 and 303 would become 300 or 302, and 304: the region would miss the step or lie beyond it.
    features = (torch.arange(400.0) >= 302).expand(1, 1, 1, 400).bfloat16().requires_grad_()
    rois = torch.tensor([[0.0, 301, 0, 303, 1]])
    for maps in (features, features.detach()):
        pooled = ROIAlign((1, 1), 1.0, 0)(maps, rois)
        assert pooled.dtype == torch.bfloat16
        assert pooled.item() == 0.5


def test_threads_do_not_change_the_result() -> None:
    features, rois = torch.randn(2, 8, 13, 21, requires_grad=True), regions(40, 2)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            pooled = pool(features, rois, (7, 7), 1 / 16)
            results.append((pooled, *torch.autograd.grad(pooled.square().sum(), features)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
