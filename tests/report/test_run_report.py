"""The report of a run made by hand: its numbers, its pictures, and what is missing being said."""

import json
import re
import shutil

import numpy as np
import pytest

from mammo_d2.report.html import DASH
from mammo_d2.report.run_blocks import PictureFolder
from mammo_d2.report.run_report import ViewerOptions, write_run_report
from tests.report.toy_run import LESION, make_dataset, make_run


@pytest.fixture
def run(tmp_path):
    make_dataset(tmp_path / "data")
    return tmp_path / "run", make_run(tmp_path / "run", tmp_path / "data")


def cells(html, first):
    """The texts of the table row whose first cell is ``first``."""
    row = re.search(rf"<tr><th[^>]*>{re.escape(first)}</th>(.*?)</tr>", html)
    assert row, f"no row {first!r}"
    return re.findall(r"<td[^>]*>(.*?)</td>", row.group(1))


def test_report_has_the_numbers_of_the_run(run):
    folder, cfg = run
    path = write_run_report(cfg, folder)
    assert path == folder / "report.html"
    html = path.read_text(encoding="utf-8")
    assert cells(html, "toy_train") == ["train", "2", "1", "0", "1", "0", "2", "1"]
    assert cells(html, "toy_test") == ["test", "2", "1", "0", "1", "0", "2", "1"]
    assert cells(html, "all classes")[:3] == ["0.568", "0.123", "0.05"]
    assert cells(html, "malignant (1 lesions): sensitivity") == [DASH, "0.432", "0.876"]
    assert cells(html, "patients")[:3] == ["0.753", "1.000", "0.000"]
    assert cells(html, "loss") == ["0.075", "0.025"]  # of iteration 39
    assert "40 iterations are logged. A step took 0.25 s" in html
    assert "<b>0.568</b><span>AP50, boxes</span>" in html
    assert "no medical device" in html


def viewer_data(html):
    """The JSON of the viewer."""
    return json.loads(re.search(r'<script type="application/json" id="viewer-data">(.*?)</script>', html).group(1))


def test_viewer_has_the_evaluated_images_with_their_boxes(run):
    folder, cfg = run
    html = write_run_report(cfg, folder).read_text(encoding="utf-8")
    data = viewer_data(html)
    (system,) = data["systems"]
    assert (system["name"], system["thresholds"]) == ("boxes", [0.65, 0.65])  # at one false positive per image
    assert system["rule"].startswith("As the FROC curve counts: hit: IoU >= 0.5")
    assert [image["id"] for image in data["images"]] == [3, 4]
    first, second = data["images"]
    assert first["lesions"] == [[*LESION, 0, ""]]
    assert (first["results"][0]["scores"], first["results"][0]["found"]) == ([0.7], [0.7])
    assert (second["results"][0]["scores"], second["results"][0]["roles"]) == ([0.65], [2])
    assert html.index("<h2>Summary") < html.index("<h2>Images") < html.index("<h2>Data")
    assert re.findall(r'<script type="text/plain" id="([^"]+)" data-type="image/jpeg">/9j/', html) == ["px-0", "px-1"]
    assert html.count("data:image/png;base64,") == 3  # losses, FROC, scores


def test_viewer_starts_at_the_threshold_for_patients_where_no_box_is_left(run):
    folder, cfg = run
    cfg.TEST.PATIENT.THRESHOLD = 0.72
    (folder / "inference" / "toy_test" / "coco_instances_results.json").write_text("[]")
    html = write_run_report(cfg, folder).read_text(encoding="utf-8")
    assert viewer_data(html)["systems"] == []
    assert html.count("data:image/png;base64,") == 1  # a FROC curve without boxes shows nothing
    assert (
        write_run_report(cfg, folder, shown=ViewerOptions(images=0)).read_text(encoding="utf-8").count("<script") == 0
    )


def test_image_scores_of_the_run_are_in_the_viewer(run):
    folder, cfg = run
    inference = folder / "inference" / "toy_test"
    metrics = json.loads((inference / "metrics.json").read_text())
    (inference / "metrics.json").write_text(json.dumps({**metrics, "image": {"malignant/auc": 1.0}}))
    scores = [{"image_id": n, "scores": {"malignant": n / 10, "other": 0.0}} for n in (4, 3)]
    (inference / "image_scores.json").write_text(json.dumps(scores))
    data = viewer_data(write_run_report(cfg, folder).read_text(encoding="utf-8"))
    assert [image["results"][0]["image"] for image in data["images"]] == [[0.3], [0.4]]
    (inference / "image_scores.json").write_text(json.dumps(scores[:1]))
    html = write_run_report(cfg, folder).read_text(encoding="utf-8")
    assert "toy_test is shown without predictions: " in html


def test_weak_localisation_is_drawn_into_the_report_and_to_files(run, tmp_path):
    folder, cfg = run
    inference = folder / "inference" / "toy_test"
    regions = [
        {"image_id": 3, "category_id": 2, "bbox": [1.0, 1.0, 9.0, 9.0], "score": 0.3},
        {"image_id": 3, "category_id": 2, "bbox": [12.0, 22.0, 20.0, 20.0], "score": 0.2},
    ]
    (inference / "top_regions.json").write_text(json.dumps(regions))
    metrics = json.loads((inference / "metrics.json").read_text())
    (inference / "metrics.json").write_text(json.dumps({**metrics, "regions": {"malignant/hits": 1.0}}))
    np.savez(inference / "response_maps.npz", **{"3": np.full((1, 4, 3), 0.5)})
    cfg.TEST.FROC.HIT = "iom"
    said: list[str] = []
    pictures = PictureFolder(tmp_path / "png", said.append)
    html = write_run_report(cfg, folder, pictures=pictures).read_text(encoding="utf-8")
    assert said == [f"{tmp_path / 'png' / 'toy_test'}: 2 pictures"]
    assert "Weak localisation on toy_test" in html
    assert "image 3, patient P3, malignant lesion hit by region 2" in html
    assert "image 4, patient P4</" in html
    assert html.count("data:image/png;base64,") == 3 + 2
    names = [system["name"] for system in viewer_data(html)["systems"]]
    assert names == ["boxes", "best regions"]
    blocks = re.findall(r'<script type="text/plain" id="(map-[^"]+)"[^>]*>(.*?)</script>', html)
    assert [name for name, text in blocks if text] == ["map-0-0-0", "map-0-1-0"]
    assert [name for name, text in blocks if not text] == ["map-1-0-0", "map-1-1-0"]  # image 4 has no map
    written = sorted(path.name for path in (tmp_path / "png" / "toy_test").iterdir())
    assert written == ["malignant_3.png", "without_lesion_4.png"]
    (tmp_path / "data" / "toy" / "images" / "3.png").write_bytes(b"broken")
    write_run_report(cfg, folder, pictures=pictures)
    assert said[1] == f"{tmp_path / 'png' / 'toy_test'}: 1 pictures"
    assert said[2].startswith("image 3 left out: ")


def test_pictures_that_cannot_be_drawn_are_named_with_the_command_that_helps(run, tmp_path):
    folder, cfg = run
    said: list[str] = []
    write_run_report(cfg, folder, pictures=PictureFolder(tmp_path / "png", said.append))
    assert len(said) == 1
    assert said[0].startswith("no pictures of toy_test: there is no top_regions.json")
    command = f"mammo-d2 train --config-file {folder / 'config.yaml'} --eval-only MODEL.WEIGHTS {cfg.MODEL.WEIGHTS} "
    assert said[0].endswith(command + "TEST.EVALUATORS \"['coco', 'froc', 'patient', 'regions']\"")
    shutil.rmtree(folder / "inference")
    write_run_report(cfg, folder, pictures=PictureFolder(tmp_path / "png", said.append))
    assert said[1:] == [f"no pictures of {folder}: the run has no evaluation"]


def test_texts_from_files_are_escaped(tmp_path):
    make_dataset(tmp_path / "data", patients="<i>P")
    cfg = make_run(tmp_path / "run", tmp_path / "data")
    html = write_run_report(cfg, tmp_path / "run").read_text(encoding="utf-8")
    assert r"\u003ci>P3" in html
    assert "&lt;b&gt;weights&lt;/b&gt;.pth" in html
    assert "IoU &gt;= 0.5 &lt;tag&gt;" in html
    assert not re.search(r"<i>|<b>weights|<tag>", html)


def test_lost_data_set_costs_its_parts_only(tmp_path):
    cfg = make_run(tmp_path / "run", tmp_path / "gone")
    html = write_run_report(cfg, tmp_path / "run", tmp_path / "elsewhere.html").read_text(encoding="utf-8")
    assert "toy_train could not be loaded: unknown data set" in html
    assert "No images of toy_test: unknown data set" in html
    assert cells(html, "all classes")[0] == "0.568"


def test_predictions_of_other_images_are_not_shown(run):
    folder, cfg = run
    results = folder / "inference" / "toy_test" / "coco_instances_results.json"
    results.write_text(results.read_text().replace('"image_id": 3', '"image_id": 99'))
    html = write_run_report(cfg, folder).read_text(encoding="utf-8")
    assert "toy_test is shown without predictions: results entry 0: image_id 99" in html


def test_run_that_was_never_evaluated_or_logged(tmp_path):
    make_dataset(tmp_path / "data")
    cfg = make_run(tmp_path / "run", tmp_path / "data")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.yaml").write_text(cfg.dump())
    html = write_run_report(cfg, bare).read_text(encoding="utf-8")
    assert "The run has no evaluation" in html
    assert "There is no training log" in html
    assert cells(html, "toy_train")[1] == "2"
