"""The classifier on ResNet-22: labels and BI-RADS as targets, padding, unknown labels."""

import pytest
import torch
import torch.nn.functional as F

from mammo_d2.modeling.meta_arch.resnet22_classifier import birads_targets
from tests.modeling.gmic_models import gmic_input, gmic_model

CLASSIFIER = ("MODEL.META_ARCHITECTURE", "ResNet22Classifier")


def test_logit_is_the_mean_of_the_map():
    model = gmic_model(*CLASSIFIER).eval()
    with torch.no_grad():
        output = model([gmic_input(seed=1)])[0]
    cells = output["saliency"][:, 1::4, 1::4]  # each of the network's cells once
    expected = torch.logit(cells).mean(dim=(1, 2)).sigmoid()
    assert list(output["image_scores"].values()) == pytest.approx(expected.tolist(), rel=1e-4)


def test_padding_is_no_part_of_the_mean():
    model, twin = gmic_model(*CLASSIFIER), gmic_model(*CLASSIFIER)
    batch = [gmic_input(0, 1, seed=1), gmic_input(1, 0, seed=2, size=(64, 48))]
    images = torch.zeros(2, 1, 96, 64)
    images[0], images[1, :, :64, :48] = ((one["image"] - 128) / 64 for one in batch)
    features = twin.backbone(images)["res22"]
    means = torch.stack([features[0].mean((1, 2)), features[1, :, :4, :3].mean((1, 2))])
    expected = F.binary_cross_entropy_with_logits(twin.classifier(means), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(model(batch)["loss_classification"], 2 * expected)


def test_unknown_labels_are_left_out():
    model = gmic_model(*CLASSIFIER)
    losses = model([gmic_input(None, None, seed=1), gmic_input(None, None, seed=2)])
    assert losses["loss_classification"].item() == 0.0
    losses["loss_classification"].backward()


def test_birads():
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


def test_birads_of_nothing_known():
    losses = gmic_model(*CLASSIFIER, "MODEL.CLASSIFIER.TARGET", "birads")([gmic_input(seed=1), gmic_input(seed=2)])
    assert losses["loss_classification"].item() == 0.0
    losses["loss_classification"].backward()


def test_birads_groups():
    records = [{"birads": value} for value in (0, "1", "4A", "BI-RADS 5", None, "n/a")] + [{}]
    assert birads_targets(records, [[0], [1, 2], [4, 5]]).tolist() == [0, 1, 2, 2, -1, -1, -1]


def test_its_backbone_is_gmics():
    names = [{n for n in gmic_model(*more).state_dict() if n.startswith("backbone.")} for more in ((), CLASSIFIER)]
    assert names[0] == names[1]


def test_bad_target():
    with pytest.raises(ValueError, match="'age'; use one of labels, birads"):
        gmic_model(*CLASSIFIER, "MODEL.CLASSIFIER.TARGET", "age")
