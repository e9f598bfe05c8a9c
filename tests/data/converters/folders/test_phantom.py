import argparse
import json

import pytest

from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.converters.folders.phantom import Phantom
from mammo_d2.data.format.annotations import validate_coco
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.phantom import PhantomConfig

CONFIG = PhantomConfig(n_patients=2, seed=1, rows=208, cols=160, share_malignant=1.0, share_benign=0.0, share_both=0.0,
                       share_calcification_malignant=0.0, share_calcification_benign=0.0)  # fmt: skip


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    Phantom(CONFIG, folder, progress=False)
    return folder


def test_no_workers_are_this_process(tmp_path):
    parser = argparse.ArgumentParser()
    Phantom.add_arguments(parser)
    parser.add_argument("--workers", type=int)
    args = parser.parse_args(["--patients", "1", "--set", "rows=160", "cols=128", "--workers", "0"])
    args.out, args.dry_run, args.quiet = tmp_path, False, True
    assert len(list(Phantom.from_arguments(args).images())) == 4


def test_set_is_made_once_and_used_again(raw):
    before = {p: p.stat().st_mtime_ns for p in raw.rglob("*.dcm")}
    assert len(before) == 8
    Phantom(CONFIG, raw, progress=False)
    assert {p: p.stat().st_mtime_ns for p in raw.rglob("*.dcm")} == before
    Phantom(PhantomConfig(**{**CONFIG.to_dict(), "seed": 2}), raw.parent / "other", progress=False)
    truth = json.loads((raw.parent / "other" / "truth.json").read_text())
    assert truth["info"]["settings"]["seed"] == 2


def test_a_set_from_before_a_field_was_added_is_used_again(raw, tmp_path):
    truth = json.loads((raw / "truth.json").read_text())
    del truth["info"]["settings"]["positive_breasts_only"]
    (tmp_path / "dicom").mkdir()
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    Phantom(CONFIG, tmp_path, progress=False)
    assert list((tmp_path / "dicom").iterdir()) == []


def test_prepared_boxes_map_back_to_the_truth(raw, tmp_path):
    truth = json.loads((raw / "truth.json").read_text())
    file_of = {i["id"]: i["file_name"] for i in truth["images"]}
    expected = {(file_of[a["image_id"]], a["lesion_id"]): a["bbox"] for a in truth["annotations"]}
    image_options = ImageOptions(crop=True, flip_to="left", max_side=150)
    result = prepare(
        Phantom(CONFIG, raw, progress=False), tmp_path, PrepareOptions(image=image_options, progress=False)
    )
    assert result.errors == []
    found = {}
    for file in result.files:
        data = json.loads(file.read_text())
        assert validate_coco(data, tmp_path / "images", check_images="full").problems == []
        images = {i["id"]: i for i in data["images"]}
        for annotation in data["annotations"]:
            image = images[annotation["image_id"]]
            x, y, w, h = annotation["bbox"]
            x1, y1, x2, y2 = ImageTransform.from_dict(image["transform"]).boxes_to_source([x, y, x + w, y + h])
            found[image["source"]["file"], annotation["lesion_id"]] = [x1, y1, x2 - x1, y2 - y1]
    assert found.keys() == expected.keys()
    for key, box in expected.items():
        assert found[key] == pytest.approx(box, abs=1e-2)
