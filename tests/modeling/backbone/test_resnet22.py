import pytest
import torch
import torch.nn.functional as F

from mammo_d2.modeling.backbone.resnet22 import ResNet22Block
from mammo_d2.modeling.meta_arch.resnet22_classifier import birads_targets
from tests.modeling.gmic_models import gmic_input, gmic_model

CLASSIFIER = ("MODEL.META_ARCHITECTURE", "ResNet22Classifier")


def test_block_is_the_formula():
    torch.manual_seed(0)
    block = ResNet22Block(3, 5, 2, project=True).eval()
    block.bn1.running_mean.uniform_(-1, 1)
    x = torch.randn(2, 3, 7, 6)
    active = F.relu((x - block.bn1.running_mean[:, None, None]) / (1 + 1e-5) ** 0.5)
    middle = F.relu(F.conv2d(active, block.conv1.weight, stride=2, padding=1) / (1 + 1e-5) ** 0.5)
    expected = F.conv2d(middle, block.conv2.weight, padding=1) + F.conv2d(active, block.shortcut.weight, stride=2)
    before = x.clone()
    torch.testing.assert_close(block(x), expected)
    assert torch.equal(x, before)


def test_published_shape():
    backbone = gmic_model("MODEL.RESNET22.STEM_CHANNELS", 16, "MODEL.RESNET22.STRIDES", [1, 2, 2, 2, 2]).backbone
    shape = backbone.output_shape()["res22"]
    assert (shape.channels, shape.stride) == (256, 64)
    assert sum(p.numel() for p in backbone.parameters()) == 2_799_536
    # 2944×1920 gives 46×30; a tenth of the work shows the same arithmetic
    with torch.no_grad():
        assert backbone.eval()(torch.zeros(1, 1, 320, 192))["res22"].shape == (1, 256, 5, 3)


def test_checkpointing_changes_neither_losses_nor_gradients_nor_statistics():
    plain, saving = gmic_model(), gmic_model("MODEL.RESNET22.CHECKPOINTING", True)
    batch = [gmic_input(0, 1, seed=1), gmic_input(1, 0, seed=2)]
    losses = [model(batch) for model in (plain, saving)]
    for name, value in losses[0].items():
        assert torch.equal(value, losses[1][name])
        assert value > 0
    for one in losses:
        sum(one.values()).backward()
    for (name, p), (_, q) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    for (name, p), (_, q) in zip(plain.named_buffers(), saving.named_buffers(), strict=True):
        assert torch.equal(p, q), name
    assert saving.backbone.norm.num_batches_tracked == 1
    assert saving.backbone.stages[1][0].bn2.momentum == 0.1


class TestClassifier:
    def test_logit_is_the_mean_of_the_map(self):
        model = gmic_model(*CLASSIFIER).eval()
        with torch.no_grad():
            output = model([gmic_input(seed=1)])[0]
        cells = output["saliency"][:, 1::4, 1::4]  # each of the network's cells once
        expected = torch.logit(cells).mean(dim=(1, 2)).sigmoid()
        assert list(output["image_scores"].values()) == pytest.approx(expected.tolist(), rel=1e-4)

    def test_padding_is_no_part_of_the_mean(self):
        model, twin = gmic_model(*CLASSIFIER), gmic_model(*CLASSIFIER)
        batch = [gmic_input(0, 1, seed=1), gmic_input(1, 0, seed=2, size=(64, 48))]
        images = torch.zeros(2, 1, 96, 64)
        images[0], images[1, :, :64, :48] = ((one["image"] - 128) / 64 for one in batch)
        features = twin.backbone(images)["res22"]
        means = torch.stack([features[0].mean((1, 2)), features[1, :, :4, :3].mean((1, 2))])
        expected = F.binary_cross_entropy_with_logits(twin.classifier(means), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        torch.testing.assert_close(model(batch)["loss_classification"], 2 * expected)

    def test_unknown_labels_are_left_out(self):
        model = gmic_model(*CLASSIFIER)
        losses = model([gmic_input(None, None, seed=1), gmic_input(None, None, seed=2)])
        assert losses["loss_classification"].item() == 0.0
        losses["loss_classification"].backward()

    def test_birads(self):
        model = gmic_model(*CLASSIFIER, "MODEL.CLASSIFIER.TARGET", "birads")
        batch = [gmic_input(seed=1, birads="2"), gmic_input(seed=2, birads=None), gmic_input(seed=3, birads=0)]
        logits = model.classifier(
            model.backbone(torch.stack([(x["image"] - 128) / 64 for x in batch]))["res22"].mean((2, 3))
        )
        # a mean over the three images, so that processes with more or fewer known ones average to the batch's
        expected = F.cross_entropy(logits[[0, 2]], torch.tensor([2, 0]), reduction="sum") / 3
        torch.testing.assert_close(model(batch)["loss_classification"], expected)
        output = model.eval()([batch[0]])[0]
        assert list(output["image_scores"]) == ["birads_0", "birads_1", "birads_2"]
        assert sum(output["image_scores"].values()) == pytest.approx(1)
        assert len(output["instances"]) == 0

    def test_birads_of_nothing_known(self):
        losses = gmic_model(*CLASSIFIER, "MODEL.CLASSIFIER.TARGET", "birads")([gmic_input(seed=1), gmic_input(seed=2)])
        assert losses["loss_classification"].item() == 0.0
        losses["loss_classification"].backward()

    def test_birads_groups(self):
        records = [{"birads": value} for value in (0, "1", "4A", "BI-RADS 5", None, "n/a")] + [{}]
        assert birads_targets(records, [[0], [1, 2], [4, 5]]).tolist() == [0, 1, 2, 2, -1, -1, -1]

    def test_its_backbone_is_gmics(self):
        names = [{n for n in gmic_model(*more).state_dict() if n.startswith("backbone.")} for more in ((), CLASSIFIER)]
        assert names[0] == names[1]

    def test_bad_target(self):
        with pytest.raises(ValueError, match="'age'; use one of labels, birads"):
            gmic_model(*CLASSIFIER, "MODEL.CLASSIFIER.TARGET", "age")
