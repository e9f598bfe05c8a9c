from dataclasses import replace

from mammo_d2.data.prepare.image import Issue, Outcome
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.prepare.shards.shard_files import Shard, listing_hash
from tests.data.toy_source import ToySource

ROWS = [("a", "p1", []), ("b", "p2", [(1, 2, 3, 4)], "test")]


def test_what_is_written_is_read(tmp_path):
    options = PrepareOptions(shard=(2, 3), image=ImageOptions(crop=True), kinds=("implant",), progress=False)
    issue = Issue("warning", "a", "a.png", "dark")
    outcomes = [Outcome("a", {"file_name": "a.png"}, [{"bbox": [1, 2, 3, 4]}], [issue], True, "test"), Outcome("b")]
    shard = Shard(options, {"dataset": "toy"}, 5, "abc", [("x", "y")], outcomes, [[("b", "why")], []])
    path = shard.write(tmp_path)
    assert path == tmp_path / "shards" / "2-of-3.json"
    # Whether an image was reused does not matter to the data set.
    assert Shard.read(path) == replace(shard, outcomes=[replace(outcomes[0], reused=False), outcomes[1]])
    assert (shard.number, shard.total) == (2, 3)


def test_the_list_is_the_same_wherever_the_files_are(tmp_path):
    def hash_of(folder, rows=ROWS, **facts):
        (tmp_path / folder).mkdir(exist_ok=True)
        return listing_hash(list(ToySource(tmp_path / folder, rows, **facts).images()))

    assert hash_of("here") == hash_of("there")
    others = [hash_of("here", ROWS[:1]), hash_of("here", ROWS[::-1]), hash_of("here", view="CC")]
    others.append(hash_of("here", [ROWS[0], (*ROWS[1][:3], "train")]))
    assert len({hash_of("here"), *others}) == 5
