"""New lesion patches in every epoch; of the others those of a few epochs again and again."""

import numpy as np

from mammo_d2.data.lesions.patches import PatchSampler
from mammo_d2.data.lesions.stored_epochs import StoredEpochs, StoredRows

COUNTS = [2, 1, 4, 3]


def make(lesions, background):
    sampler = PatchSampler([[0, 1], [2], [3], [4]], COUNTS, seed=1)
    classes = np.concatenate([sampler.classes_of(epoch) for epoch in range(lesions)])
    return StoredEpochs(sampler, lesions, background), classes


def test_all_lesion_patches_of_the_stream_are_stored_and_the_others_of_the_first_epochs():
    stored, classes = make(5, 2)
    assert len(stored.positions) == 2 * 10 + 3 * 3
    assert stored.positions[:20].tolist() == list(range(20))
    assert stored.positions[20:].tolist() == [place for place in range(20, 50) if classes[place] < 2]


def test_every_epoch_has_new_lesion_patches():
    stored, classes = make(5, 2)
    epochs = [stored.positions[stored.rows_of(epoch)] for epoch in range(7)]
    for epoch, positions in enumerate(epochs):
        kinds = classes[positions]
        assert np.bincount(kinds, minlength=4).tolist() == COUNTS
        assert set(positions[kinds < 2] // 10) == {epoch % 5}
        assert set(positions[kinds >= 2] // 10) == {epoch % 2}
    assert len({place for positions in epochs[:5] for place in positions[classes[positions] < 2]}) == 15
    assert epochs[5].tolist() != epochs[0].tolist()  # the others are those of the second epoch


def test_whole_epochs_where_all_are_stored():
    stored, _ = make(2, 9)
    assert stored.counts == (2, 2)
    assert [stored.rows_of(epoch).tolist() for epoch in (1, 2)] == [list(range(10, 20)), list(range(10))]


def test_rows_are_records():
    arrays = {
        "embedding": np.eye(3, dtype=np.float32),
        "window": np.arange(12, dtype=np.float32).reshape(3, 4),
        "patch_class": np.array([3, 0, 1]),
        "source": np.array([7, 8, 9]),
    }
    rows = list(StoredRows(arrays))
    assert len(rows) == 3
    assert (rows[1]["patch_class"], rows[1]["image"], rows[1]["window"].tolist()) == (0, 8, [4, 5, 6, 7])
    assert rows[2]["embedding"].tolist() == [0, 0, 1]
