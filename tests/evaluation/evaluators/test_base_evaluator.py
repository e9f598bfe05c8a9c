"""What all evaluators share: ranks, images without output, outputs that do not fit."""

import json

import pytest

from mammo_d2.evaluation.evaluators import base_evaluator
from mammo_d2.evaluation.evaluators.froc_evaluators import FrocEvaluator
from mammo_d2.evaluation.evaluators.precision_evaluators import CocoEvaluator
from mammo_d2.framework import launch
from tests.evaluation.evaluators import rank_job
from tests.evaluation.evaluators.toy import HIT, OUTPUTS, RECORDS, TOY, inputs, output, run


def test_an_image_sent_to_two_ranks_counts_once(monkeypatch):
    alone = run(FrocEvaluator(TOY))
    evaluator = FrocEvaluator(TOY)
    evaluator.process(inputs(RECORDS[:4]), OUTPUTS[:4])
    first = evaluator._found
    evaluator.reset()
    evaluator.process(inputs(RECORDS[3:]), OUTPUTS[3:])
    monkeypatch.setattr(base_evaluator.comm, "gather", lambda found, dst=0: [first, found])
    assert evaluator.evaluate() == alone


@pytest.mark.slow
@pytest.mark.usefixtures("hidden_gpus")
def test_two_ranks_give_the_numbers_of_one(tmp_path):
    launch(rank_job.main, 2, dist_url="auto", args=(str(tmp_path / "two"),))
    rank_job.main(str(tmp_path / "one"))
    assert not (tmp_path / "two" / "rank1.json").exists()
    one, two = (json.loads((tmp_path / name / "rank0.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert one["froc"]["malignant/num_lesions"] > 3


def test_other_ranks_return_nothing(monkeypatch):
    evaluator = FrocEvaluator(TOY)
    evaluator.process(inputs(), OUTPUTS)
    monkeypatch.setattr(base_evaluator.comm, "is_main_process", lambda: False)
    assert evaluator.evaluate() == {}


def test_only_predicted_images_count_and_the_log_says_so(caplog):
    with caplog.at_level("WARNING"):
        result = run(FrocEvaluator(TOY), OUTPUTS[:2], RECORDS[:2])
    assert result["froc"]["malignant/num_lesions"] == 1
    assert "2 of the 6 images" in caplog.text


def test_outputs_that_do_not_fit_are_named_errors():
    evaluator = CocoEvaluator(TOY)
    with pytest.raises(ValueError, match="image_id 99 is not in data set 'evaluators_toy'"):
        evaluator.process([{"image_id": 99}], [output()])
    with pytest.raises(ValueError, match=r"1 predicted box.* NaN or infinite, the first in image 2"):
        run(evaluator, [output(), output((HIT, float("nan")))], RECORDS[:2])
