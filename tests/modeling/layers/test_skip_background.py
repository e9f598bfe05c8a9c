import pytest
import torch
import torch.nn.functional as F

from mammo_d2.modeling.fold_norm import fold_norms
from mammo_d2.modeling.layers.receptive_field import Reach
from mammo_d2.modeling.layers.skip_background import EqualRun, apply_shortened, equal_runs
from tests.modeling.gmic_models import gmic_input, gmic_model


def test_equal_runs():
    image = torch.zeros(2, 1, 6, 9)
    image[0, 0, 1, 3] = 1
    image[1, 0, 2, 8] = 1
    assert equal_runs(image, 3, shortest=2) == [EqualRun(0, 3), EqualRun(4, 8)]
    assert equal_runs(image, 2, shortest=2) == [EqualRun(3, 6)]
    assert equal_runs(image, 3, shortest=5) == []
    assert equal_runs(torch.zeros(1, 1, 4, 5), 3, shortest=2) == [EqualRun(0, 5)]


@pytest.mark.parametrize("axis", [2, 3])
def test_equal_runs_are_those_of_a_plain_loop(axis):
    """Also where slices differ in a few pixels only, which a look at every 64th does not see."""
    generator = torch.Generator().manual_seed(2)
    for pixels in (0, 1, 3, 40):
        image = torch.zeros(2, 2, 90, 150)
        for place in torch.rand(pixels, 4, generator=generator).mul(torch.tensor([2, 2, 90, 150])).long():
            image[tuple(place)] = 1
        slices = image.unbind(axis)
        expected, start = [], 0
        for index in range(1, len(slices) + 1):
            if index == len(slices) or not torch.equal(slices[index], slices[index - 1]):
                if index - start >= 3:
                    expected.append(EqualRun(start, index))
                start = index
        assert equal_runs(image, axis, shortest=3) == expected


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (7, 3), (3, 0)])
@pytest.mark.parametrize("content", [(0, 9), (13, 20), (40, 47)])
def test_a_convolution_is_the_same_and_smaller(stride, kernel, padding, content):
    generator = torch.Generator().manual_seed(0)
    x = torch.full((1, 2, 47, 47), -0.7)
    first, last = content
    x[:, :, first:last, first:last] = torch.rand(2, last - first, last - first, generator=generator)
    weight = torch.randn(3, 2, kernel, kernel, generator=generator)
    seen = []

    def layer(part):
        seen.append(part.shape)
        return F.conv2d(part, weight, stride=stride, padding=padding)

    runs = (equal_runs(x, 2, 8), equal_runs(x, 3, 8))
    reach = Reach(stride, padding, kernel - 1 - padding)
    found, after = apply_shortened(layer, x, reach, runs)
    expected = F.conv2d(x, weight, stride=stride, padding=padding)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert seen[0][2] < 40
    assert seen[0][3] < 40
    # what is said to be equal afterwards is
    for run in after[1]:
        if run.stop > run.start:
            part = expected[..., run.start : run.stop]
            torch.testing.assert_close(part, part[..., :1].expand_as(part), rtol=0, atol=1e-6)


def window_like(seed=1) -> dict:
    """An input with breast-like content at the left and constant background above, below and on the right."""
    record = gmic_input(seed=seed, size=(224, 160))
    content = record["image"][:, 60:150, :50].clone()
    record["image"] = torch.full((1, 224, 160), 40.0)
    record["image"][:, 60:150, :50] = content
    return record


@pytest.mark.parametrize("strides", [[1, 2, 2], [1, 2, 2, 2]])
def test_skipping_background_leaves_the_model_as_it_is(strides):
    plain = gmic_model("MODEL.RESNET22.STRIDES", strides).eval()
    quick = gmic_model("MODEL.RESNET22.STRIDES", strides, "MODEL.RESNET22.SKIP_BACKGROUND", True).eval()
    cells = []
    first = quick.backbone.stages[0][0].conv1
    first.register_forward_hook(lambda module, inputs, output: cells.append(output[0, 0].numel()))
    with torch.no_grad():
        expected, found = plain([window_like()])[0], quick([window_like()])[0]
    torch.testing.assert_close(found["saliency"], expected["saliency"], rtol=0, atol=1e-6)
    assert found["patches"].tolist() == expected["patches"].tolist()
    assert found["image_scores"] == pytest.approx(expected["image_scores"], abs=1e-6)
    assert cells[0] < 0.6 * 55 * 39


def test_no_background_and_only_background():
    quick = gmic_model("MODEL.RESNET22.SKIP_BACKGROUND", True).eval()
    plain = gmic_model().eval()
    empty = gmic_input(size=(224, 160))
    empty["image"] = torch.full((1, 224, 160), 40.0)
    for record in (gmic_input(seed=1), empty):
        with torch.no_grad():
            found, expected = quick([record])[0], plain([record])[0]
        torch.testing.assert_close(found["saliency"], expected["saliency"], rtol=0, atol=1e-6)


class TestFolding:
    def test_same_outputs(self):
        plain, folded = gmic_model(), gmic_model()
        for model in (plain, folded):
            torch.manual_seed(1)
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.uniform_(-0.5, 0.5)
                    module.running_var.uniform_(0.5, 2)
                    module.weight.data.uniform_(0.5, 1.5)
            model.eval()
        # one in each of 6 blocks of the backbone; in ResNet-18 one after each of its 20 convolutions
        assert fold_norms(folded) == 26
        assert fold_norms(folded) == 0
        with torch.no_grad():
            expected, found = plain([gmic_input(seed=1)])[0], folded([gmic_input(seed=1)])[0]
        torch.testing.assert_close(found["saliency"], expected["saliency"], rtol=0, atol=1e-5)
        assert found["image_scores"] == pytest.approx(expected["image_scores"], abs=1e-5)

    def test_not_in_training(self):
        with pytest.raises(ValueError, match="evaluation mode only"):
            fold_norms(gmic_model())


def test_channels_last_leaves_the_outputs():
    plain = gmic_model().eval()
    other = gmic_model().eval().to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected, found = plain([gmic_input(seed=1)])[0], other([gmic_input(seed=1)])[0]
    torch.testing.assert_close(found["saliency"], expected["saliency"], rtol=0, atol=1e-5)
    assert found["image_scores"] == pytest.approx(expected["image_scores"], abs=1e-5)
