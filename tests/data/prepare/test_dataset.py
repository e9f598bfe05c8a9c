import csv
import json
from dataclasses import replace

import pytest

from mammo_d2.core.files import sha256_file
from mammo_d2.data.format.annotations import check_splits, validate_coco
from mammo_d2.data.format.store_files import open_store
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions
from tests.data.toy_source import ToySource, write_breasts

BOX = (60, 100, 40, 20)
KEYS = [f"p{p}v{v}" for p in range(10) for v in range(2)]
# Patients 0..3 have a lesion in their second view.
ROWS = [(key, key[:2], [BOX] if key[1] in "0123" and key.endswith("1") else []) for key in KEYS]


def options(**changes):
    return PrepareOptions(**{"fractions": (("train", 0.6), ("val", 0.2), ("test", 0.2)), "progress": False, **changes})


def errors_csv(out):
    with (out / "errors.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    write_breasts(folder, KEYS)
    return folder


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "toy"
    return prepare(ToySource(source, ROWS), out, options())


def test_all_images_come_out_once_and_patient_wise(prepared):
    assert {s: n["patients"] for s, n in prepared.counts.items()} == {"train": 6, "val": 2, "test": 2}
    assert sum(n["images"] for n in prepared.counts.values()) == 20
    assert {s: n["positive"] for s, n in prepared.counts.items()} == {"train": 2, "val": 1, "test": 1}
    assert check_splits(prepared.files).problems == []


def test_files_follow_the_format(prepared):
    for file in prepared.files:
        assert validate_coco(file, prepared.out / "images", check_images="full").problems == []
    data = json.loads((prepared.out / "annotations" / "test.json").read_text())
    assert data["info"]["split"] == "test"
    assert [a["id"] for a in data["annotations"]] == [1]
    assert len([i for i in data["images"] if i["labels"]["malignant"] == 0]) == 3


def test_manifest(prepared):
    manifest = json.loads((prepared.out / "manifest.json").read_text())
    assert manifest["dataset"] == "toy"
    assert manifest["counts"] == prepared.counts
    assert manifest["options"]["seed"] == 0
    train = prepared.out / "annotations" / "train.json"
    assert manifest["files"]["annotations/train.json"] == sha256_file(train)
    assert manifest["versions"]["numpy"]


def test_same_again_with_more_workers(source, prepared, tmp_path):
    again = prepare(ToySource(source, ROWS), tmp_path / "toy", options(workers=2))
    for file in prepared.files:
        assert (tmp_path / "toy" / "annotations" / file.name).read_bytes() == file.read_bytes()
    assert again.counts == prepared.counts


def test_repeated_run_reuses_everything(source, tmp_path):
    rows = ROWS[:6]
    first = prepare(ToySource(source, rows), tmp_path, options())
    second = prepare(ToySource(source, rows), tmp_path, options())
    assert (first.reused, second.reused) == (0, 6)
    third = prepare(ToySource(source, rows), tmp_path, options(force=True))
    assert third.reused == 0


def test_bad_images_are_left_out_and_listed(source, tmp_path):
    rows = [*ROWS[:4], ("missing", "p9", [])]
    result = prepare(ToySource(source, rows), tmp_path, options())
    assert sum(n["images"] for n in result.counts.values()) == 4
    listed = errors_csv(tmp_path)
    assert [(r["level"], r["key"]) for r in listed] == [("error", "missing")]
    assert "missing.png" in listed[0]["problem"]


@pytest.mark.parametrize("key", ["../../p9", "p0/../../../p9", "ABSOLUTE", "..\\p9", "C:p9"])
def test_identifiers_that_lead_out_of_the_folder_write_nothing_there(source, tmp_path, key):
    key = str(tmp_path / "elsewhere" / "p9") if key == "ABSOLUTE" else key
    converter = ToySource(source, ROWS[:4])
    images = [*converter.images(), replace(next(iter(converter.images())), key=key)]
    converter.images = lambda: images
    result = prepare(converter, tmp_path / "sets" / "toy", options())
    assert sum(n["images"] for n in result.counts.values()) == 4
    (issue,) = result.errors
    assert issue.key == key
    assert f"would be called {key!r}, which " in issue.problem
    assert "correct the identifiers" in issue.problem
    assert [p.name for p in tmp_path.iterdir()] == ["sets"]
    assert [p.name for p in (tmp_path / "sets").iterdir()] == ["toy"]
    (dry,) = prepare(converter, tmp_path / "dry", options(dry_run=True)).errors
    assert dry.problem == issue.problem


def test_one_name_in_two_spellings(source, tmp_path):
    converter = ToySource(source, ROWS[:1])
    first = next(iter(converter.images()))
    images = [replace(first, key="p0/a"), replace(first, key="p0/./a")]
    converter.images = lambda: images
    with pytest.raises(PrepareError, match="two images would be called 'p0/a'"):
        prepare(converter, tmp_path, options())


def test_strict_stops_at_the_first_error(source, tmp_path):
    rows = [ROWS[0], ("missing", "p9", []), ROWS[1]]
    with pytest.raises(PrepareError, match=r"missing\.png.*stopped at the first error"):
        prepare(ToySource(source, rows), tmp_path, options(strict=True))
    assert not (tmp_path / "annotations").exists()
    assert [r["key"] for r in errors_csv(tmp_path)] == ["missing"]


def test_nothing_prepared_is_an_error(source, tmp_path):
    with pytest.raises(PrepareError, match=r"none of 1 images could be prepared; the first: .*gone\.png"):
        prepare(ToySource(source, [("gone", "p", [])]), tmp_path, options())


def test_no_images_and_equal_names(source, tmp_path):
    with pytest.raises(PrepareError, match="no images of the toy data set found"):
        prepare(ToySource(source, []), tmp_path, options())
    with pytest.raises(PrepareError, match="two images would be called 'p0v0'"):
        prepare(ToySource(source, [ROWS[0], ROWS[0]]), tmp_path, options())


def test_dry_run_writes_nothing(source, tmp_path):
    out = tmp_path / "toy"
    rows = [*ROWS, ("missing", "p9", [])]
    result = prepare(ToySource(source, rows), out, options(dry_run=True))
    assert result.counts == {"all": {"images": 21, "patients": 10, "positive": 4, "annotations": 4}}
    assert [i.problem for i in result.errors] == [f"{source / 'missing.png'}: no such file; fetch it"]
    assert not out.exists()


def test_limit(source, tmp_path):
    result = prepare(ToySource(source, ROWS), tmp_path, options(limit=3))
    assert sum(n["images"] for n in result.counts.values()) == 3


def test_files_of_another_split_do_not_stay(source, tmp_path):
    prepare(ToySource(source, ROWS), tmp_path, options())
    result = prepare(ToySource(source, ROWS), tmp_path, options(fractions=(("train", 0.5), ("test", 0.5))))
    assert sorted(p.name for p in (tmp_path / "annotations").iterdir()) == ["test.json", "train.json"]
    assert sorted(result.counts) == ["test", "train"]


def test_image_options_reach_the_images(source, tmp_path):
    result = prepare(ToySource(source, ROWS[:4]), tmp_path, options(image=ImageOptions(max_side=100)))
    heights = {i["height"] for f in result.files for i in json.loads(f.read_text())["images"]}
    assert heights == {100}


def test_a_split_of_another_name_is_refused_and_earlier_annotations_stay(source, tmp_path):
    first = prepare(ToySource(source, ROWS[:4]), tmp_path, options())
    kept = {file: file.read_bytes() for file in first.files}
    with pytest.raises(PrepareError, match=r"p0v0\.png: split 'training' must be one of train, val, test"):
        prepare(ToySource(source, [(*ROWS[0], "training"), ROWS[1]]), tmp_path, options())
    assert {file: file.read_bytes() for file in kept} == kept


def test_records_that_break_the_format_leave_earlier_annotations_alone(source, tmp_path):
    first = prepare(ToySource(source, ROWS[:4]), tmp_path, options())
    kept = {file: file.read_bytes() for file in first.files}
    with pytest.raises(PrepareError, match=r"none of 20 images .*laterality = 'left'"):
        prepare(ToySource(source, ROWS, laterality="left"), tmp_path, options())
    assert {file: file.read_bytes() for file in (tmp_path / "annotations").iterdir()} == kept


def test_one_wrong_fact_leaves_out_its_image(source, tmp_path):
    converter = ToySource(source, ROWS[:4])
    images = list(converter.images())
    converter.images = lambda: [replace(images[0], laterality="Left"), *images[1:]]
    result = prepare(converter, tmp_path, options())
    assert sum(n["images"] for n in result.counts.values()) == 3
    (issue,) = result.errors
    assert issue.problem == (
        f"{source / 'p0v0.png'}: laterality = 'Left': unknown value; use one of L, R, or null when unknown"
    )


def test_an_image_whose_truth_cannot_be_read_is_left_out(source, tmp_path):
    converter = ToySource(source, ROWS[:4])
    images = list(converter.images())
    converter.images = lambda: [replace(images[0], problem="p0v0.xml: damaged"), *images[1:]]
    result = prepare(converter, tmp_path, options())
    assert [i.problem for i in result.errors] == ["p0v0.xml: damaged"]


def test_why_nothing_was_found(source, tmp_path):
    toy = ToySource(source, [])
    toy.skip("a.txt", "no image")
    with pytest.raises(PrepareError, match=r"check the folder \(1 files were skipped, the first: a\.txt: no image\)"):
        prepare(toy, tmp_path, options())


def test_labels_without_a_negative_are_warned_about(source, tmp_path):
    def about_labels(labels):
        result = prepare(ToySource(source, ROWS[:2], labels=labels), tmp_path, options())
        return [i.problem for i in result.issues if not i.key]

    (problem,) = about_labels({"benign": None, "malignant": 1})
    assert problem.startswith("2 images are labelled malignant, none has the label 0, 0 are unknown")
    assert about_labels({"benign": None, "malignant": 0}) == []
    assert about_labels({"benign": None, "malignant": None}) == []


def test_a_source_without_labels_gives_records_without(source, tmp_path):
    """Not unknown ones: its images without a lesion are negative."""
    prepare(ToySource(source, ROWS, labels=None), tmp_path, options())
    images = [i for path in (tmp_path / "annotations").iterdir() for i in json.loads(path.read_text())["images"]]
    assert len(images) == len(ROWS)
    assert not any("labels" in image for image in images)


def test_own_splits_are_kept_and_val_is_carved_from_train(source, tmp_path):
    rows = [(*row, "test" if row[1] in ("p8", "p9") else "train") for row in ROWS]
    result = prepare(ToySource(source, rows), tmp_path, options())
    assert {s: n["patients"] for s, n in result.counts.items()} == {"train": 8, "test": 2}
    result = prepare(ToySource(source, rows), tmp_path, options(val_from_train=0.25))
    assert {s: n["patients"] for s, n in result.counts.items()} == {"train": 6, "val": 2, "test": 2}
    assert check_splits(result.files).problems == []


def test_leaking_own_splits_are_reported(source, tmp_path):
    rows = [(*ROWS[0], "train"), (*ROWS[1], "test"), (*ROWS[2], "train")]
    result = prepare(ToySource(source, rows), tmp_path, options())
    assert [(i.level, i.key) for i in result.issues] == [("warning", "p0")]
    assert "patient in test and train by the data set's own split" in result.issues[0].problem


def test_same_pixels_under_two_patients_stay_in_one_split(tmp_path):
    keys = [f"k{i}" for i in range(8)]
    write_breasts(tmp_path, keys)
    (tmp_path / "k7.png").write_bytes((tmp_path / "k0.png").read_bytes())
    for seed in range(6):
        rows = [(key, f"patient{i}", []) for i, key in enumerate(keys)]
        result = prepare(ToySource(tmp_path, rows), tmp_path / "out", options(seed=seed))
        assert result.duplicates == [["k0", "k7"]]
        assert any("same pixels as k7" in i.problem for i in result.issues)
        with_pair = [f for f in result.files if '"k0.png"' in f.read_text()]
        assert all('"k7.png"' in f.read_text() for f in with_pair)


def test_images_without_patient_stand_for_themselves(source, tmp_path):
    rows = [(key, None, []) for key, _, _ in ROWS]
    result = prepare(ToySource(source, rows), tmp_path, options())
    assert {s: n["images"] for s, n in result.counts.items()} == {"train": 12, "val": 4, "test": 4}


def test_large_annotation_files_get_a_record_store(source, tmp_path, monkeypatch):
    prepare(ToySource(source, ROWS), tmp_path, options(limit=6))
    (tmp_path / "annotations" / "other.records").touch()  # of an earlier run
    monkeypatch.setattr("mammo_d2.data.format.store_files.LEAST_STORED_BYTES", 1)
    result = prepare(ToySource(source, ROWS), tmp_path, options(limit=6))
    names = sorted(path.stem for path in result.files)
    assert sorted(p.name for p in (tmp_path / "annotations").glob("*.records")) == [f"{name}.records" for name in names]
    for path in result.files:
        assert len(open_store(path, tmp_path / "images")) == result.counts[path.stem]["images"]
