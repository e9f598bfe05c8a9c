"""What bfloat16 autocast promises: maps and scores to a tolerance, the same patches but for near ties, training."""

import pytest
import torch
import torch.nn.functional as F

from tests.modeling.gmic_models import gmic_input, gmic_model

BATCH = [gmic_input(0, 1, seed=1), gmic_input(1, 0, seed=2)]
# bfloat16 keeps 8 bits of a number; these hold with a factor of about three on the seeds below.
SALIENCY, SCORES = 0.006, 0.005
#: Cosine of the angle between gradients.
SIMILAR = {"saliency_head": 0.99, "fusion": 0.99, "backbone.conv1": 0.85, "patch_net.conv1": 0.8}


def bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


def first_difference(one: torch.Tensor, other: torch.Tensor, saliency: torch.Tensor) -> float:
    """By how much the first window (2×2 cells of 16 pixels) that differs is worse than the one chosen on this map."""
    low, high = saliency.amin((1, 2), keepdim=True), saliency.amax((1, 2), keepdim=True)
    total = ((saliency - low) / (high - low)).sum(dim=0)
    for (y, x), (v, u) in zip((one // 16).tolist(), (other // 16).tolist(), strict=True):
        sums = 4 * F.avg_pool2d(total[None], 2, 1)[0]
        if (y, x) != (v, u):
            return float(sums[y, x] - sums[v, u])
        total[y : y + 2, x : x + 2] = 0
    return 0.0


def test_inference():
    model = gmic_model("MODEL.GMIC.FUSION", "concat").eval()
    same = 0
    for seed in range(8):
        images = (gmic_input(seed=seed)["image"][None] - 128) / 64
        with torch.inference_mode():
            plain = model.predict(images)
            with bfloat16():
                mixed = model.predict(images)
        error = (mixed.saliency - plain.saliency).abs().max().item()
        assert 0 < error < SALIENCY
        for said in (mixed.saliency, mixed.attention, mixed.local_logits, mixed.fusion_logits):
            assert said.dtype == torch.float32
        torch.testing.assert_close(mixed.global_scores, plain.global_scores, rtol=0, atol=SCORES)
        span = (plain.saliency.amax((2, 3)) - plain.saliency.amin((2, 3))).min().item()
        # a window sums four cells of two classes; its own and the other's error are at most doubled by the minimum's
        near_tie = 2 * 2 * 8 * error / span
        assert first_difference(plain.positions[0], mixed.positions[0], plain.saliency[0]) <= near_tie
        if torch.equal(plain.positions, mixed.positions):
            same += 1
            torch.testing.assert_close(model.final_scores(mixed), model.final_scores(plain), rtol=0, atol=SCORES)
    assert same >= 6


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_step(checkpointing):
    """Losses to two per cent, gradients in the same direction, both finite and float32."""
    overrides = ("MODEL.GMIC.FUSION", "concat", "MODEL.RESNET22.CHECKPOINTING", checkpointing)
    plain, mixed = gmic_model(*overrides), gmic_model(*overrides)
    expected = plain(BATCH)
    with bfloat16():
        losses = mixed(BATCH)
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        {name: loss.item() for name, loss in expected.items()}, rel=0.02
    )
    sum(expected.values()).backward()
    sum(losses.values()).backward()
    # the first layers see the rounding of all that follow, through batch statistics of two random images
    for name, similar in SIMILAR.items():
        one, other = (model.get_parameter(f"{name}.weight").grad for model in (plain, mixed))
        assert other.dtype == torch.float32
        assert F.cosine_similarity(one.flatten(), other.flatten(), dim=0) > similar, name


def test_checkpointing_repeats_the_mixed_pass():
    models = [gmic_model("MODEL.RESNET22.CHECKPOINTING", value) for value in (False, True)]
    for model in models:
        with bfloat16():
            losses = model(BATCH)
        sum(losses.values()).backward()
    for (name, p), (_, q) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name


def test_nothing_known_stays_finite():
    model = gmic_model()
    with bfloat16():
        losses = model([gmic_input(None, None, seed=1), gmic_input(None, None, seed=2)])
    assert losses["loss_global"].item() == losses["loss_local"].item() == 0.0
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
