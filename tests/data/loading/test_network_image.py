import numpy as np

from mammo_d2.data.loading.network_image import ImageCache, NetworkImage


def test_cache_keeps_to_its_limit():
    cache = ImageCache(10 * 400 / 2**20)
    for key in range(50):
        cache.get(str(key), lambda: NetworkImage(np.zeros((10, 10), np.float32)))
    assert len(cache) == 10
    off = ImageCache(0)
    off.get("a", lambda: NetworkImage(np.zeros((1, 1), np.float32)))
    assert len(off) == 0


def test_a_tissue_map_counts_too():
    image = NetworkImage(np.zeros((10, 10), np.float32), tissue=np.zeros((2, 5, 5), np.float32))
    assert image.nbytes == 600
    assert sorted(image.sample_fields()) == ["tissue"]
