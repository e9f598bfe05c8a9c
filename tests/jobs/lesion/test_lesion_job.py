"""The lesion classifier's job: all stages, interrupted and continued."""

import numpy as np
import pytest
import torch

from mammo_d2.data.lesions.stores import EmbeddingStore
from mammo_d2.engine.run_files.run_record import RunConflictError
from mammo_d2.engine.trainer import MammoTrainer
from tests.jobs.lesion.lesion_jobs import run, write_job


@pytest.fixture
def folder(tmp_path):
    return write_job(tmp_path)


def weights(folder, stage="context_embedding_saliency"):
    return torch.load(folder / stage / "model_final.pth", weights_only=True)["model"]


@pytest.mark.slow
def test_an_interrupted_job_ends_with_the_weights_of_an_uninterrupted_one(folder, monkeypatch):
    monkeypatch.setattr("mammo_d2.data.lesions.stores.PART", 10)
    whole = run(folder)
    assert set(whole["lesion"]) >= {"auc", "tnr@fnr0", "num_malignant"}
    assert whole["lesion"]["num_unknown"] == 1
    saliency = [np.load(path) for path in (folder / "out/cache/saliency").rglob("*.npy")]
    assert [one.shape for one in saliency] == [(2, 6, 5)] * 4
    # The folder of the job is a run's, those of its stages are not.
    assert [path.parent.name for path in (folder / "out").rglob("config.yaml")] == ["out"]

    # The other run breaks off in f_loc, among the embeddings, and in f_agg.
    step, put = MammoTrainer.run_step, EmbeddingStore.put

    def failing_step(self):
        if self.iter == failing_step.at:
            raise KeyboardInterrupt
        step(self)

    def failing_put(self, part, arrays):
        if part.start == 20:
            raise KeyboardInterrupt
        put(self, part, arrays)

    monkeypatch.setattr(MammoTrainer, "run_step", failing_step)
    for at, change in ((3, put), (99, failing_put), (4, put)):
        failing_step.at = at
        monkeypatch.setattr(EmbeddingStore, "put", change)
        with pytest.raises(KeyboardInterrupt):
            run(folder, resume=at != 3, out="broken")
        # The third break is in f_agg: f_loc has finished.
        assert (folder / "broken/patch/model_final.pth").is_file() == (at != 3)
    assert not (folder / "broken/context_embedding_saliency/model_final.pth").is_file()
    failing_step.at = 99
    again = run(folder, resume=True, out="broken")
    assert again == whole
    for stage in ("patch", "context_embedding_saliency"):
        for name, value in weights(folder / "out", stage).items():
            torch.testing.assert_close(weights(folder / "broken", stage)[name], value, rtol=0, atol=0)

    # Another combination of maps uses the same f_loc; evaluation alone repeats the numbers.
    run(folder, "MODEL.LESION.MAPS", "['indicator']", resume=True)
    assert (folder / "out/context_indicator/model_final.pth").is_file()
    assert run(folder, eval_only=True) == whole
    # So does another job that is given its weights.
    run(folder, "MODEL.LESION.PATCH_WEIGHTS", str(folder / "out/patch/model_best.pth"), out="given")
    assert not (folder / "given/patch").exists()
    for name, value in weights(folder / "out").items():
        torch.testing.assert_close(weights(folder / "given")[name], value, rtol=0, atol=0)


def test_a_stage_of_another_config_is_refused_before_any_training(folder, monkeypatch):
    two = ["SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "2"]
    whole = run(folder, *two)
    monkeypatch.setattr(MammoTrainer, "run_step", lambda self: pytest.fail("trained"))
    keys = "MODEL.LESION."
    for key, stage in (("PATCH_STAGE", "patch"), ("CONTEXT_STAGE", "context_embedding_saliency")):
        with pytest.raises(RunConflictError, match=rf"/{stage} holds a run .*{key}: .*\. Name another OUTPUT_DIR, or"):
            run(folder, *two, keys + key, "['SOLVER.IMS_PER_BATCH', 2]", resume=True)
    # The final evaluation is made anew every time.
    assert run(folder, *two, keys + "FINAL_TEST", "['lesions_train']", resume=True) == whole
