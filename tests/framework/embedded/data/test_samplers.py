"""The sampler of inference."""

import pytest

from mammo_d2.framework.embedded.data.samplers import InferenceSampler
from mammo_d2.framework.embedded.utils import comm


@pytest.mark.parametrize(("size", "parts"), [(7, [[0, 1, 2], [3, 4], [5, 6]]), (2, [[0], [1], []])])
def test_inference_gives_every_index_once(monkeypatch: pytest.MonkeyPatch, size: int, parts: list[list[int]]) -> None:
    found = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        sampler = InferenceSampler(size)
        found.append(list(sampler))
        assert len(sampler) == len(found[-1])
    assert found == parts


def test_empty_data_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 0: there must be at least one record"):
        InferenceSampler(0)
