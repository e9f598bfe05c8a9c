"""Losses of label-only images: hand-computed values, extreme logits, gradients."""

import math

import pytest
import torch

from mammo_d2.modeling.functional.label_only_losses import pooled_log_probs, self_label_loss, self_labels
from mammo_d2.modeling.functional.mil import image_loss, pad_regions

# Two images of one class: probabilities of the class .8 .5 .2, and .1.
PROBS = [[0.8, 0.5, 0.2], [0.1]]


def batch(probs=PROBS, dtype=torch.float64):
    """Padded logits (N, M, 2) whose softmax gives the class the probability."""
    images = [torch.tensor([[math.log(p), math.log(1 - p)] for p in image], dtype=dtype) for image in probs]
    return pad_regions(images)


@pytest.mark.parametrize(
    ("pooling", "k", "expected"),
    [
        ("max", 2, [0.8, 0.1]),
        ("mean", 2, [(0.8 + 0.5) / 2, 0.1]),
        ("mean", 5, [0.5, 0.1]),  # all three there are
        ("noisy_or", 2, [1 - 0.2 * 0.5, 0.1]),
        ("noisy_or", 5, [1 - 0.2 * 0.5 * 0.8, 0.1]),
    ],
)
def test_probability_of_an_image(pooling, k, expected):
    probs = pooled_log_probs(*batch(), 1, pooling, k)
    assert probs.log_prob.exp().squeeze(1).tolist() == pytest.approx(expected, rel=1e-12)
    assert probs.log_complement.exp().squeeze(1).tolist() == pytest.approx([1 - p for p in expected], rel=1e-12)


def test_loss_of_a_positive_and_of_an_unknown_image():
    """-ln .8 of the first image, nothing of the second; the mean is over both."""
    probs = pooled_log_probs(*batch(), 1, "max", 1)
    loss = image_loss(probs, torch.tensor([[1.0], [math.nan]]))
    assert loss.item() == pytest.approx(-math.log(0.8) / 2, rel=1e-6)


def test_each_class_has_its_own_best_proposals():
    """Softmax over two classes and background; class 0 is best in the first proposal, class 1 in the second."""
    logits = torch.tensor([[[0.6, 0.1, 0.3], [0.2, 0.7, 0.1]]], dtype=torch.float64).log()
    probs = pooled_log_probs(logits, torch.ones(1, 2, dtype=torch.bool), 2, "max", 1)
    assert probs.log_prob.exp()[0].tolist() == pytest.approx([0.6, 0.7])
    # Class 0 present, class 1 known to be absent.
    loss = image_loss(probs, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(-math.log(0.6) - math.log(0.3), rel=1e-6)


@pytest.mark.parametrize("pooling", ["max", "mean", "noisy_or"])
@pytest.mark.parametrize("margin", [-200.0, -40.0, 40.0, 200.0])
def test_extreme_logits_in_float32(pooling, margin):
    """log p and log(1 - p) keep their values where p is 0 or 1 to every digit; gradients are finite."""
    logits = torch.tensor([[[margin, 0.0]] * 3], requires_grad=True)
    probs = pooled_log_probs(logits, torch.ones(1, 3, dtype=torch.bool), 1, pooling, 2)
    together = pooling == "noisy_or"  # of two proposals: p doubles where it is small, 1 - p is squared
    expected = (
        (margin + math.log(2) * together, 0.0) if margin < 0 else (0.0, -margin * (2 if together else 1))
    )  # fmt: skip
    assert [value.item() for value in probs] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    (-probs.log_prob - probs.log_complement).sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("pooling", ["max", "mean", "noisy_or"])
def test_gradients(pooling):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True] * 4, [True] * 3 + [False]])
    targets = torch.tensor([[1.0, 0.0], [math.nan, 1.0]])

    def loss(values):
        return image_loss(pooled_log_probs(values, mask, 2, pooling, 2), targets)

    assert torch.autograd.gradcheck(loss, logits)
    (gradient,) = torch.autograd.grad(loss(logits), logits)
    assert gradient[1, 3].abs().sum() == 0  # padding


def test_bad_pooling():
    with pytest.raises(ValueError, match="'median'; use one of max, mean, noisy_or"):
        pooled_log_probs(*batch(), 1, "median", 1)


# Proposals of 10x10 pixels: the second overlaps the first with IoU 80/120 = 2/3, the third with 40/160 = 1/4.
BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 2, 10, 12], [0, 6, 10, 16], [50, 50, 60, 60]])
SCORES = torch.tensor([[0.7, 0.1, 0.2], [0.2, 0.2, 0.6], [0.1, 0.3, 0.6], [0.3, 0.5, 0.2]])


class TestSelfLabels:
    def labels(self, present, others="background", min_iou=0.5):
        return self_labels(SCORES.log(), BOXES, torch.tensor(present), min_iou, others)

    def test_the_best_proposal_is_the_seed_and_overlapping_ones_have_its_class(self):
        labels = self.labels([True, False])
        assert labels.seeds.tolist() == [0]
        assert labels.seed_scores.tolist() == pytest.approx([0.7])
        assert labels.classes.tolist() == [0, 0, 2, 2]  # 2 is background
        assert labels.weights.tolist() == pytest.approx([0.7] * 4)

    def test_two_classes_have_a_seed_each(self):
        labels = self.labels([True, True])
        assert (labels.seeds.tolist(), labels.seed_classes.tolist()) == ([0, 3], [0, 1])
        assert labels.classes.tolist() == [0, 0, 2, 1]
        assert labels.weights.tolist() == pytest.approx([0.7, 0.7, 0.7, 0.5])

    def test_others_left_out(self):
        assert self.labels([True, False], "ignore").classes.tolist() == [0, 0, -1, -1]
        assert self.labels([True, False], "ignore", min_iou=0.25).classes.tolist() == [0, 0, 0, -1]

    def test_without_a_known_class_nothing_is_labelled(self):
        """An image of unknown label: its proposals are no background."""
        labels = self.labels([False, False])
        assert labels.classes.tolist() == [-1] * 4
        logits = SCORES.log().requires_grad_()
        loss = self_label_loss(logits, labels)
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.abs().sum() == 0

    def test_loss(self):
        """.7 · (-ln .7 - ln .2 - ln .6 - ln .2) / 4; with the others left out .7 · (-ln .7 - ln .2) / 2."""
        loss = self_label_loss(SCORES.log(), self.labels([True, False]))
        expected = -0.7 * sum(map(math.log, (0.7, 0.2, 0.6, 0.2))) / 4
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        loss = self_label_loss(SCORES.log(), self.labels([True, False], "ignore"))
        assert loss.item() == pytest.approx(-0.7 * (math.log(0.7) + math.log(0.2)) / 2, rel=1e-6)

    def test_the_weights_have_no_gradient(self):
        logits = SCORES.double().log().requires_grad_()
        labels = self_labels(logits, BOXES, torch.tensor([True, False]), 0.5, "background")
        self_label_loss(logits, labels).backward()
        # Of the seed: w · (p - 1) / 4 for its class.
        assert logits.grad[0].tolist() == pytest.approx([0.7 * -0.3 / 4, 0.7 * 0.1 / 4, 0.7 * 0.2 / 4], rel=1e-6)

    def test_bad_choice(self):
        with pytest.raises(ValueError, match="'negative'; use one of background, ignore"):
            self.labels([True, False], "negative")
