"""Parts of a data set, and the data set that is made of them: the files of one run."""

import json
import shutil
from dataclasses import replace

import pytest

from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.prepare.shards.merge import merge_shards
from tests.data.toy_source import ToySource, write_breasts

KEYS = [f"p{p}v{v}" for p in range(5) for v in range(2)]
# The images of a patient are in different shards; p9 has the pixels of p0; "gone" is missing.
ROWS = [(key, key[:2], [(60, 100, 40, 20)] if key[1] in "013" else []) for key in KEYS]
ROWS += [("gone", "p1", []), ("p9v0", "p9", [])]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    write_breasts(folder, KEYS)
    shutil.copy(folder / "p0v0.png", folder / "p9v0.png")
    return folder


def options(**changes):
    fractions = (("train", 0.5), ("val", 0.25), ("test", 0.25))
    return PrepareOptions(**{"fractions": fractions, "progress": False, "image": ImageOptions(max_side=100), **changes})


def toy(source, rows=ROWS, **facts):
    converter = ToySource(source, rows, **facts)
    converter.skip("notes.txt", "no image")
    return converter


def files(out):
    """Every file that a user sees, with its content; the manifest without its time."""
    found = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.relative_to(out).parts[0] not in ("records", "shards")
    }
    manifest = json.loads(found.pop("manifest.json"))
    assert manifest.pop("created")
    return found, manifest


def prepare_shards(source, out, total=3, **changes):
    for number in range(1, total + 1):
        prepare(toy(source), out, options(shard=(number, total), **changes))


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """One run without shards."""
    out = tmp_path_factory.mktemp("whole") / "toy"
    return prepare(toy(source), out, options())


@pytest.fixture(scope="module")
def parts(source, tmp_path_factory):
    """Three shards that are not merged."""
    out = tmp_path_factory.mktemp("parts") / "toy"
    prepare_shards(source, out)
    return out


@pytest.fixture
def copied(parts, tmp_path):
    return shutil.copytree(parts, tmp_path / "toy")


@pytest.mark.parametrize("total", [1, 3, 20])
def test_merged_shards_are_the_files_of_one_run(source, whole, tmp_path, total):
    out = tmp_path / "toy"
    prepare_shards(source, out, total)
    assert not (out / "annotations").exists()
    assert not (out / "errors.csv").exists()
    merged = merge_shards(out)
    assert files(out) == files(whole.out)
    assert (merged.counts, merged.issues, merged.skipped) == (whole.counts, whole.issues, whole.skipped)


def test_what_lies_across_shards_is_found_at_the_merge(copied):
    merged = merge_shards(copied)
    assert merged.duplicates == [["p0v0", "p9v0"]]
    splits = {}
    for file in merged.files:
        for image in json.loads(file.read_text())["images"]:
            splits.setdefault(image["patient_id"], set()).add(file.stem)
    assert all(len(names) == 1 for names in splits.values())
    assert splits["p0"] == splits["p9"]


def test_patients_that_the_own_split_has_twice_are_found(source, tmp_path):
    rows = [(*ROWS[0], "train"), (*ROWS[1], "test"), (*ROWS[4], "train")]
    for number in (1, 2):
        prepare(toy(source, rows), tmp_path, options(shard=(number, 2)))
    assert [(i.key, i.problem) for i in merge_shards(tmp_path).issues] == [
        ("p0", "patient in test and train by the data set's own split")
    ]


class Killed(BaseException):
    """Not caught, as a signal would not be."""


def test_a_shard_that_was_killed_goes_on_and_gives_the_same(source, whole, copied, monkeypatch):
    for path in [*(copied / "shards").glob("2-*"), *(copied / "records").iterdir()]:
        path.unlink()
    read = []

    def read_and_die(self, image):
        read.append(image.key)
        if len(read) == 3:
            raise Killed
        return super(ToySource, self).read(image)

    with monkeypatch.context() as patch:
        patch.setattr(ToySource, "read", read_and_die)
        with pytest.raises(Killed):
            prepare(toy(source), copied, options(shard=(2, 3)))
    with pytest.raises(PrepareError, match=r"1 of 3 shards are missing \(2/3\); run prepare with --shard 2/3"):
        merge_shards(copied)
    again = prepare(toy(source), copied, options(shard=(2, 3)))
    assert again.reused == 2
    assert again.counts == {"2/3": {"images": 3, "patients": 3, "positive": 2, "annotations": 2}}
    merge_shards(copied)
    assert files(copied) == files(whole.out)


def test_a_shard_prepared_twice_changes_nothing(source, whole, copied):
    assert prepare(toy(source), copied, options(shard=(1, 3))).reused == 4
    merge_shards(copied)
    merge_shards(copied)
    assert files(copied) == files(whole.out)


def test_what_a_file_leads_to_leave_out_is_listed_in_its_place(source, tmp_path):
    class OfPhantoms(ToySource):
        def read(self, image):
            pixels, meta = super().read(image)
            return pixels, replace(meta, kinds=("phantom",) if image.key in ("p1v0", "p2v0") else ())

    for number in (1, 2, 3):
        prepare(OfPhantoms(source, ROWS), tmp_path / "parts", options(shard=(number, 3), kinds=()))
    one = prepare(OfPhantoms(source, ROWS), tmp_path / "one", options(kinds=()))
    assert [what for what, _ in one.skipped] == ["p1v0", "p2v0"]
    assert merge_shards(tmp_path / "parts").skipped == one.skipped
    assert files(tmp_path / "parts") == files(tmp_path / "one")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "shards 1/3 and 2/3 differ in seed: 0 and 1; prepare one of them again"),
        ({"image": ImageOptions(max_side=90)}, "differ in image.max_side: 100 and 90"),
        ({"visits": "first"}, "differ in visits: 'all' and 'first'"),
        ({"limit": 11}, "differ in limit"),
    ],
)
def test_shards_of_other_options_are_refused(source, copied, changes, message):
    prepare(toy(source), copied, options(shard=(2, 3), **changes))
    with pytest.raises(PrepareError, match=message):
        merge_shards(copied)
    assert not (copied / "annotations").exists()


def test_how_a_run_goes_may_differ_between_shards(source, whole, copied):
    prepare(toy(source), copied, options(shard=(2, 3), workers=1, force=True, check_hashes=True))
    merge_shards(copied)
    assert files(copied) == files(whole.out)


def edited(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_shards_of_other_versions_are_refused(copied):
    path = copied / "shards" / "3-of-3.json"
    origin = json.loads(path.read_text())["origin"]
    edited(path, origin={**origin, "versions": {**origin["versions"], "numpy": "1.0"}})
    with pytest.raises(PrepareError, match=r"shards 1/3 and 3/3 differ in versions\.numpy: '.*' and '1\.0'"):
        merge_shards(copied)


def test_a_source_that_changed_between_shards_is_refused(source, copied):
    prepare(toy(source, view="CC"), copied, options(shard=(2, 3)))
    with pytest.raises(PrepareError, match="shards 1/3 and 2/3 were made from other lists of images: files or tables"):
        merge_shards(copied)


def test_shards_of_two_runs_are_refused(source, copied):
    prepare(toy(source), copied, options(shard=(1, 2)))
    with pytest.raises(PrepareError, match="shards of runs in 2 and 3 parts; delete the files of the run"):
        merge_shards(copied)


def test_images_that_were_not_copied_are_missed(copied):
    path = copied / "images" / "p1v0.png"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(PrepareError, match=rf"p1v0\.png: {len(data) - 1} bytes, not {len(data)}; copy the images of"):
        merge_shards(copied)
    path.unlink()
    with pytest.raises(PrepareError, match=r"p1v0\.png: no such file; copy the images of shard 3/3, or prepare it"):
        merge_shards(copied)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "2-of-3.json: not the file of a shard of this version"),
        ("[]", "2-of-3.json: not the file of a shard of this version"),
        ('{"options": {}}', "2-of-3.json: not the file of a shard of this version"),
    ],
)
def test_damaged_shard_files(copied, content, message):
    (copied / "shards" / "2-of-3.json").write_text(content)
    with pytest.raises(PrepareError, match=message):
        merge_shards(copied)


def test_the_file_of_another_shard(copied):
    shutil.copy(copied / "shards" / "1-of-3.json", copied / "shards" / "2-of-3.json")
    with pytest.raises(PrepareError, match=r"2-of-3\.json: holds 4 images of shard 1/3; 4 of 2/3 belong there"):
        merge_shards(copied)


def test_no_shards(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        merge_shards(tmp_path / "none")
    with pytest.raises(PrepareError, match=r"no shards/k-of-n\.json in it; run prepare with --shard"):
        merge_shards(tmp_path)


def test_nothing_prepared_in_any_shard(source, tmp_path):
    for number in (1, 2):
        prepare(toy(source, [("gone", "p", []), ("lost", "p", [])]), tmp_path, options(shard=(number, 2)))
    with pytest.raises(PrepareError, match=r"none of 2 images could be prepared; the first: .*gone\.png"):
        merge_shards(tmp_path)
