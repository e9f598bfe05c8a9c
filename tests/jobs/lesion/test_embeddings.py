"""How many epochs of patches are stored for f_agg: by default as many as it is trained for."""

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.data.lesions.patches import PatchSampler
from mammo_d2.jobs.lesion.embeddings import stored_epochs
from mammo_d2.jobs.lesion.lesion_stages import CONTEXT_MODEL, with_own_settings


def counts(config, *overrides):
    cfg = with_own_settings(load_config(config, list(overrides)), CONTEXT_MODEL)
    sampler = PatchSampler([[0], [0], [0], [0]], cfg.MODEL.LESION.EPOCH, seed=1)
    return stored_epochs(cfg, sampler)


def test_the_papers_config_stores_new_lesion_patches_for_every_epoch_it_trains():
    """10 000 iterations of 100 patches are 100 epochs of 10 000, each with 20 malignant and 35 benign ones."""
    config = "configs/lesion_context/DenseNet161.yaml"
    stored = counts(config)
    assert stored.counts == (100, 10)
    assert len(stored.positions) == 10 * 10_000 + 90 * 55
    # The number of epochs follows the training, rounded up.
    stage = "['SOLVER.IMS_PER_BATCH', 100, 'SOLVER.MAX_ITER', 1201]"
    assert counts(config, "MODEL.LESION.CONTEXT_STAGE", stage).counts == (13, 10)
    assert counts(config, "MODEL.LESION.STORED_BACKGROUND_EPOCHS", "0").counts == (100, 100)
    assert counts(config, "MODEL.LESION.STORED_EPOCHS", "1").counts == (1, 1)
    with pytest.raises(ValueError, match=r"STORED_EPOCHS and STORED_BACKGROUND_EPOCHS are 0 and -1; they must be"):
        counts(config, "MODEL.LESION.STORED_BACKGROUND_EPOCHS", "-1")


def test_the_papers_configs_report_annotations_with_intervals():
    test = load_config("configs/lesion_context/DenseNet161.yaml").TEST
    assert (test.LESION.AVERAGE, test.BEST_METRIC, test.BOOTSTRAP.REPLICATES) == ("annotation", "lesion/auc", 1000)
