"""How many epochs of patches are stored for f_agg: by default as many as it is trained for."""

import numpy as np
import pytest
import torch

from mammo_d2.config.loading import load_config
from mammo_d2.data.lesions.patches import PatchSampler
from mammo_d2.data.lesions.stored_epochs import StoredEpochs
from mammo_d2.evaluation.metrics.scores.curves import roc_auc, score_table
from mammo_d2.jobs.lesion.embeddings import stored_epochs
from mammo_d2.jobs.lesion.lesion_stages import CONTEXT_MODEL, with_own_settings
from mammo_d2.modeling.functional.lesion_maps import class_weights, malignancy_scores, weighted_cross_entropy
from mammo_d2.modeling.meta_arch.lesion_context import AggregationNetwork


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


def auc_of_aggregation(stored, sampler, seed=0):
    """Test AUC of f_agg after 40 epochs on simulated embeddings: shifted by the pathology, noise of each lesion."""
    rng, size = np.random.default_rng(seed), 8
    centres = rng.normal(size=(150, size))  # sources: 50 malignant, 50 benign, 25 outside, 25 negative
    centres[:50, 0] += 1.0
    centres[50:100, 0] -= 1.0
    centres[100:, 1] += 4.0
    noise = rng.normal(size=(40 * sampler.length, size)) / 2
    classes = np.concatenate([sampler.classes_of(epoch) for epoch in range(40)])
    torch.manual_seed(seed)
    network = AggregationNetwork(size, channels=8)
    optimizer = torch.optim.Adam(network.parameters(), 0.003)

    def maps(embeddings):
        return torch.tensor(embeddings, dtype=torch.float32)[:, :, None, None].expand(-1, -1, 2, 2)

    for epoch in range(40):
        for rows in rng.permutation(stored.rows_of(epoch)).reshape(3, -1):
            places = stored.positions[rows]
            drawn = centres[[sampler.index_at(place) for place in places]] + noise[places]
            targets = torch.from_numpy(classes[places])
            optimizer.zero_grad()
            weighted_cross_entropy(network(maps(drawn)), targets, class_weights(sampler.counts)).backward()
            optimizer.step()
    truth = np.repeat([1.0, 0.0], 300)
    lesions = rng.normal(size=(600, size))
    lesions[:, 0] += 2 * truth - 1
    with torch.inference_mode():
        scores = malignancy_scores(network.eval()(maps(lesions))).numpy()
    return float(roc_auc(score_table(truth, scores)))


@pytest.mark.slow
def test_new_lesion_patches_in_every_epoch_teach_more_than_one_stored_epoch():
    pools = [list(range(begin, end)) for begin, end in ((0, 50), (50, 100), (100, 125), (125, 150))]
    sampler = PatchSampler(pools, [5, 5, 10, 10], seed=1)
    once, new, reused = (
        np.mean([auc_of_aggregation(StoredEpochs(sampler, lesions, background), sampler, seed) for seed in range(3)])
        for lesions, background in ((1, 1), (40, 40), (40, 4))
    )
    assert new > once + 0.1
    assert reused == pytest.approx(new, abs=0.03)
