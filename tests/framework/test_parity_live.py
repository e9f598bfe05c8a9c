"""Both engines side by side on one machine: the same state dicts, weights, losses, proposals and detections."""

import json
import zlib

import pytest
import torch

from tests.framework import engines, model_cases

pytestmark = pytest.mark.detectron2

# Largest absolute difference allowed in losses, scores, logits and pixels.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def pair():
    """detectron2 and the embedded engine."""
    return engines.load(engines.DETECTRON2), engines.load(engines.EMBEDDED)


def test_every_config_key_has_the_same_default_and_type(pair) -> None:
    real, ours = (engine.get_cfg() for engine in pair)
    assert ours == real
    assert _types(ours) == _types(real)


@pytest.mark.parametrize("case", ["fpn_18", "c4_50_stride_in_1x1", "batch_norm_frozen_stem", "group_norm"])
def test_one_seed_gives_the_same_initial_weights(pair, case: str) -> None:
    states = []
    for engine in pair:
        torch.manual_seed(0)
        model = engine.build_model(model_cases.config(engine, case))
        states.append((model.state_dict(), [(n, p.requires_grad) for n, p in model.named_parameters()]))
    (real, real_parameters), (ours, our_parameters) = states
    assert list(ours) == list(real)  # in order: an optimizer's state knows parameters by their position
    assert our_parameters == real_parameters
    assert [name for name in real if not torch.equal(real[name], ours[name])] == []


@pytest.mark.parametrize("case", model_cases.CASES)
def test_same_numbers(pair, case: str) -> None:
    real, ours = (model_cases.compute(engine, case) for engine in pair)
    assert ours["state_dict"] == real["state_dict"]
    assert _largest_difference(ours["inference"], real["inference"]) <= TOLERANCE
    for batch in model_cases.BATCHES:
        for part in ("losses", "scalars", "with_gradient"):
            assert _largest_difference(ours["training"][batch][part], real["training"][batch][part]) <= TOLERANCE
        # Regions are pooled in another order of sums in training, and a ReLU at 0 passes or stops a whole gradient.
        norms = real["training"][batch]["gradient_norms"]
        assert ours["training"][batch]["gradient_norms"] == pytest.approx(norms, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("case", ["fpn_50_stride_in_1x1", "c4_50_stride_in_1x1", "other_options"])
def test_golden_numbers_are_current(pair, case: str) -> None:
    fresh = model_cases.compute(pair[0], case)
    assert fresh["state_dict"] == model_cases.golden(case)["state_dict"]
    assert _largest_difference(fresh["inference"], model_cases.golden(case)["inference"]) <= 1e-4
    for batch, run in model_cases.golden(case)["training"].items():
        assert fresh["training"][batch]["losses"] == pytest.approx(run["losses"], abs=TOLERANCE)


@pytest.mark.parametrize("case", ["fpn_18", "c4_50_stride_in_3x3", "batch_norm_frozen_stem"])
def test_a_state_dict_of_either_engine_loads_strictly_into_the_other(pair, case: str) -> None:
    real, ours = (engine.build_model(model_cases.config(engine, case)) for engine in pair)
    ours.load_state_dict(real.state_dict(), strict=True)
    real.load_state_dict(ours.state_dict(), strict=True)
    listed = json.dumps(model_cases.parameters(ours))
    assert zlib.crc32(listed.encode()) == model_cases.golden(case)["state_dict"][1]


def _types(node) -> dict:
    return {key: _types(value) if isinstance(value, dict) else type(value).__name__ for key, value in node.items()}


def _largest_difference(a, b) -> float:
    if isinstance(b, dict):
        assert list(a) == list(b)
        return max((_largest_difference(a[key], b[key]) for key in b), default=0.0)
    if isinstance(b, (list, tuple)):
        assert len(a) == len(b)
        return max((_largest_difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    return abs(a - b) if isinstance(b, float) else float(a != b)
