import math

import pytest
import torch

from mammo_d2.modeling.functional.losses import multi_label_bce, similarity_loss, sparsity_loss, top_likelihood_loss


class TestTopLikelihood:
    def test_hand_computed(self):
        # top 2 of {0, ln 3, -5}: softplus(0) = ln 2, softplus(ln 3) = ln 4
        logits = torch.tensor([[0.0, math.log(3.0), -5.0]])
        assert top_likelihood_loss(logits, 2).item() == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-6)

    def test_mean_over_images(self):
        logits = torch.tensor([[0.0, -9.0], [math.log(3.0), -9.0]])
        assert top_likelihood_loss(logits, 1).item() == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-6)

    def test_fewer_anchors_than_t_uses_all(self):
        logits = torch.tensor([[0.0, math.log(3.0)]])
        assert top_likelihood_loss(logits, 256).item() == pytest.approx((math.log(2) + math.log(4)) / 2, rel=1e-6)

    def test_only_eligible_anchors_are_ranked(self):
        # first image: of {0, 9, ln 3} the 9 is left out; second: one of three may be used; third: none
        logits = torch.tensor([[0.0, 9.0, math.log(3.0)], [0.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
        eligible = torch.tensor([[1, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
        expected = ((math.log(2) + math.log(4)) / 2 + math.log(2) + 0) / 3
        assert top_likelihood_loss(logits, 2, eligible).item() == pytest.approx(expected, rel=1e-6)
        all_of_them = torch.ones_like(eligible)
        assert top_likelihood_loss(logits, 2, all_of_them).item() == top_likelihood_loss(logits, 2).item()

    def test_gradient_only_on_top(self):
        logits = torch.tensor([[0.0, 2.0, -1.0]], requires_grad=True)
        top_likelihood_loss(logits, 1).backward()
        # d softplus(2) = sigmoid(2)
        assert logits.grad.tolist() == [[0.0, pytest.approx(1 / (1 + math.exp(-2)), rel=1e-6), 0.0]]

    @pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
    def test_nothing_to_average_keeps_the_graph(self, shape):
        logits = torch.zeros(shape, requires_grad=True)
        loss = top_likelihood_loss(logits, 4)
        loss.backward()
        assert loss.item() == 0.0
        assert logits.grad.shape == shape

    def test_large_logits_are_finite(self):
        assert top_likelihood_loss(torch.tensor([[1e4, -1e4]]), 1).item() == pytest.approx(1e4)

    def test_gradcheck(self):
        logits = torch.randn(2, 7, dtype=torch.double, generator=torch.Generator().manual_seed(0))
        # the loss computes in float32 on purpose, so compare against the closed form instead of finite differences
        logits.requires_grad_(True)
        top_likelihood_loss(logits, 3).backward()
        kept = logits.detach() >= logits.detach().topk(3, dim=1).values[:, -1:]
        torch.testing.assert_close(logits.grad, torch.sigmoid(logits.detach()) * kept / 6, rtol=1e-6, atol=1e-7)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            top_likelihood_loss(torch.zeros(1, 2), 0)
        with pytest.raises(ValueError, match=r"\(images, anchors\)"):
            top_likelihood_loss(torch.zeros(2), 1)
        with pytest.raises(ValueError, match=r"shape \(1, 2\), got \(2,\)"):
            top_likelihood_loss(torch.zeros(1, 2), 1, torch.ones(2, dtype=torch.bool))


class TestSimilarity:
    def test_hand_computed(self):
        x1 = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
        x2 = torch.tensor([[0.8, 0.6], [0.0, 1.0]])
        # cosines 0.96 and 0
        assert similarity_loss(x1, x2).item() == pytest.approx(0.48, rel=1e-6)

    def test_same_is_one(self):
        x = torch.softmax(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), dim=1)
        assert similarity_loss(x, x).item() == pytest.approx(1.0, abs=1e-6)

    def test_gradient_reaches_both_sides(self):
        x1 = torch.tensor([[0.3, 0.7]], dtype=torch.double, requires_grad=True)
        x2 = torch.tensor([[0.9, 0.1]], dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradcheck(similarity_loss, (x1, x2))
        similarity_loss(x1, x2).backward()
        assert x1.grad.abs().sum() > 0
        assert x2.grad.abs().sum() > 0

    def test_no_pairs_keep_the_graph(self):
        x1 = torch.zeros(0, 3, requires_grad=True)
        x2 = torch.zeros(0, 3, requires_grad=True)
        loss = similarity_loss(x1, x2)
        loss.backward()
        assert loss.item() == 0.0

    def test_different_shapes(self):
        with pytest.raises(ValueError, match="one row per pair"):
            similarity_loss(torch.zeros(1, 2), torch.zeros(2, 2))


class TestMultiLabelBce:
    def test_hand_computed_with_an_unknown_label(self):
        probabilities = torch.tensor([[0.5, 0.25], [0.2, 0.9]])
        targets = torch.tensor([[1.0, 0.0], [0.0, math.nan]])
        # first image: -ln 0.5 and -ln 0.75; second: -ln 0.8, its other label is unknown
        expected = (-math.log(0.5) - math.log(0.75) - math.log(0.8)) / 2
        assert multi_label_bce(probabilities, targets).item() == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("from_logits", [False, True])
    def test_mean_over_parts_of_a_batch_is_the_batchs(self, from_logits):
        """What several processes average, one with few known labels."""
        predictions = torch.rand(4, 2, generator=torch.Generator().manual_seed(0))
        targets = torch.tensor([[1.0, math.nan], [math.nan, math.nan], [0.0, 1.0], [1.0, 0.0]])
        whole = multi_label_bce(predictions, targets, from_logits=from_logits)
        parts = [multi_label_bce(predictions[i : i + 2], targets[i : i + 2], from_logits=from_logits) for i in (0, 2)]
        torch.testing.assert_close(sum(parts) / 2, whole)

    def test_logits_and_probabilities_agree(self):
        logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
        targets = torch.tensor([[1.0, 0.0], [0.0, math.nan], [1.0, 1.0], [math.nan, 0.0]])
        from_logits = multi_label_bce(logits, targets, from_logits=True)
        torch.testing.assert_close(from_logits, multi_label_bce(logits.sigmoid(), targets))

    @pytest.mark.parametrize("from_logits", [False, True])
    def test_unknown_labels_get_no_gradient(self, from_logits):
        predictions = torch.full((2, 2), 0.3, requires_grad=True)
        targets = torch.tensor([[1.0, math.nan], [math.nan, math.nan]])
        multi_label_bce(predictions, targets, from_logits=from_logits).backward()
        assert predictions.grad[0, 0] != 0
        assert predictions.grad.abs().sum() == predictions.grad[0, 0].abs()

    @pytest.mark.parametrize("rows", [0, 3])
    def test_nothing_known_keeps_the_graph(self, rows):
        predictions = torch.full((rows, 2), 0.5, requires_grad=True)
        loss = multi_label_bce(predictions, torch.full((rows, 2), math.nan))
        loss.backward()
        assert loss.item() == 0.0
        assert predictions.grad.shape == (rows, 2)

    def test_saturated_probability_is_finite(self):
        probabilities = torch.tensor([[0.0, 1.0]], requires_grad=True)
        loss = multi_label_bce(probabilities, torch.tensor([[1.0, 0.0]]))
        loss.backward()
        assert loss.item() == pytest.approx(200.0)  # torch cuts each logarithm at -100
        assert probabilities.grad.isfinite().all()

    def test_under_autocast_in_float32(self):
        probabilities = torch.tensor([[0.3]])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = multi_label_bce(probabilities, torch.tensor([[1.0]]))
        assert loss.item() == pytest.approx(-math.log(0.3), rel=1e-6)

    def test_different_shapes(self):
        with pytest.raises(ValueError, match=r"\(images, classes\)"):
            multi_label_bce(torch.zeros(2, 2), torch.zeros(2, 1))


class TestSparsity:
    def test_hand_computed(self):
        saliency = torch.tensor([[[[0.5, 0.0], [1.0, 0.25]]], [[[0.0, 0.0], [0.0, 0.5]]]])
        # squares: 0.25 + 1 + 0.0625 and 0.25, mean of two images
        assert sparsity_loss(saliency, 2.0).item() == pytest.approx((1.3125 + 0.25) / 2, rel=1e-6)

    def test_classes_are_summed(self):
        saliency = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        parts = sum(sparsity_loss(saliency[:, c : c + 1], 1.3).item() for c in range(3))
        assert sparsity_loss(saliency, 1.3).item() == pytest.approx(parts, rel=1e-6)

    def test_small_exponent_has_a_finite_gradient_at_zero(self):
        saliency = torch.tensor([[[[0.0, 0.25]]]], requires_grad=True)
        sparsity_loss(saliency, 0.5).backward()
        # d/dA sqrt(A) at 0.25 = 1
        assert saliency.grad.flatten().tolist() == [0.0, pytest.approx(1.0, rel=1e-6)]

    def test_no_image_keeps_the_graph(self):
        saliency = torch.zeros(0, 2, 3, 3, requires_grad=True)
        sparsity_loss(saliency, 1.0).backward()
        assert saliency.grad.shape == (0, 2, 3, 3)

    def test_bad_exponent(self):
        with pytest.raises(ValueError, match="positive, got 0"):
            sparsity_loss(torch.zeros(1, 1, 1, 1), 0)
