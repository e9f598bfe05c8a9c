"""Saliency and embeddings on disk, and the order in which stored patches are used."""

import os

import cv2
import numpy as np
import pytest
import torch

from mammo_d2.data.lesions import stores
from mammo_d2.data.lesions.patch_store import PatchStore
from mammo_d2.data.lesions.patches import PatchSampler
from mammo_d2.data.lesions.stored_epochs import StoredEpochs
from mammo_d2.data.lesions.stores import EmbeddingStore, SaliencyStore, StoredPatchMapper, StoredPatchSampler


def test_saliency_is_found_by_image_and_network(tmp_path):
    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 6), 9, np.uint16))
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 3, "height": 4, "width": 6}
    images = PatchStore(tmp_path / "store")
    maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    SaliencyStore(tmp_path / "saliency", "one", images).put(record, maps)
    assert torch.equal(SaliencyStore(tmp_path / "saliency", "one", images).get(record), torch.from_numpy(maps))
    with pytest.raises(FileNotFoundError, match=r"image 3.*mammo-d2 train"):
        SaliencyStore(tmp_path / "saliency", "two", images).get(record)


def test_saliency_depends_on_what_the_network_is_told_with_the_image(tmp_path):
    """The canvas of GMIC is placed by laterality and view: from the record, else from the file's name."""
    for name in ("a.png", "0_L-CC.png"):
        assert cv2.imwrite(str(tmp_path / name), np.full((4, 6), 9, np.uint16))
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 3, "height": 4, "width": 6}
    store = SaliencyStore(tmp_path / "saliency", "one", PatchStore(tmp_path / "store"))
    told = [{}, {"view": "MLO"}, {"laterality": "R", "view": "CC"}, {"laterality": "L", "view": "CC"}]
    paths = [store.path({**record, **facts}) for facts in told]
    assert len(set(paths)) == 4
    assert store.path({**record, "file_name": str(tmp_path / "0_L-CC.png")}) == paths[3]
    assert store.path({**record, "laterality": None, "view": None}) == paths[0]


def test_embeddings_come_in_parts_that_can_be_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "PART", 4)
    store = EmbeddingStore(tmp_path, 10)
    assert store.missing() == [range(4), range(4, 8), range(8, 10)]
    values = np.arange(20, dtype=np.float32).reshape(10, 2)
    for part in (range(8, 10), range(4)):
        store.put(part, {"embedding": values[part.start : part.stop]})
    assert store.missing() == [range(4, 8)]
    store.put(range(4, 8), {"embedding": values[4:8]})
    np.testing.assert_array_equal(EmbeddingStore(tmp_path, 10).load()["embedding"], values)


def test_two_processes_may_make_the_same_part(tmp_path, monkeypatch):
    store, values, save = EmbeddingStore(tmp_path, 4), np.arange(8.0).reshape(4, 2), np.savez

    def while_the_other_writes(file, **arrays):
        # Older numpy takes every keyword for an array.
        assert set(arrays) == {"embedding"}
        monkeypatch.setattr(np, "savez", save)
        monkeypatch.setattr(os, "getpid", lambda: 1)
        store.put(range(4), {"embedding": values})
        monkeypatch.undo()
        save(file, **arrays)

    monkeypatch.setattr(np, "savez", while_the_other_writes)
    store.put(range(4), {"embedding": values})
    np.testing.assert_array_equal(store.load()["embedding"], values)
    assert [path.name for path in tmp_path.iterdir()] == ["0000000_0000004.npz"]


def test_stored_epochs_follow_each_other_in_new_orders():
    stored = StoredEpochs(PatchSampler([[0], [0], [0], [0]], [1, 1, 2, 2], seed=1), 2, 2)
    sampler = StoredPatchSampler(stored, seed=1)
    epochs = np.array([sampler.index_at(position) for position in range(18)]).reshape(3, 6)
    assert [sorted(epoch) for epoch in epochs] == [list(range(6)), list(range(6, 12)), list(range(6))]
    assert (epochs[0] != epochs[2]).any()
    assert sampler.index_at(7) == epochs[1, 1]
    shares = [StoredPatchSampler(stored, seed=1, rank=rank, world_size=2) for rank in (0, 1)]
    drawn = [[index for index, _ in zip(share, range(3), strict=False)] for share in shares]
    assert np.array(drawn).T.ravel().tolist() == epochs[0].tolist()


def test_a_stored_row_becomes_a_model_input():
    record = {"image_id": 5, "file_name": "a.png", "height": 40, "width": 30}
    row = {"embedding": np.ones(3, np.float32), "window": np.arange(4, dtype=np.float32), "patch_class": 2, "image": 1}
    sample = StoredPatchMapper([{}, record], lambda one: torch.full((1, 2, 2), float(one["image_id"])))(row)
    assert sample["image_size"].tolist() == [40, 30]
    assert sample["window"].tolist() == [0, 1, 2, 3]
    assert sample["saliency"].unique().item() == 5.0
    assert "saliency" not in StoredPatchMapper([{}, record], None)(row)
