"""Runs over many files: resumed, in batches, with new and changed files, stopped by a signal; flat memory."""

import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mammo_d2.cli.results.predict import run
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.reading.image_meta import ImageMeta
from mammo_d2.inference import prediction_run
from mammo_d2.inference.image_files import find_images
from mammo_d2.inference.prediction_files import FileProblem, Prediction
from mammo_d2.inference.prediction_run import PredictionRun, RunOptions, numbered
from mammo_d2.pictures.saliency_maps import find_saliency, read_saliency
from tests.conftest import ROOT
from tests.inference.tiny_model import brightest_cfg, write_mammogram

CLASSES = ["malignant"]


class Model:
    """Scores by the file's content; "bad" is a problem. Remembers its batches."""

    def __init__(self, stop_at=()):
        self.batches, self.stop_at = [], stop_at

    def __call__(self, batches, *, strict, pictures):
        for batch in batches:
            self.batches.append([number for number, _ in batch])
            yield [self._outcome(number, file, len(batch)) for number, file in batch]

    def _outcome(self, number, file, together):
        if number in self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        with open(file) as stream:
            text = stream.read()
        if text == "bad":
            return FileProblem(file, f"{file}: bad")
        score = float(text) + together / 1000  # as padding does, a batch changes the last digits
        meta = ImageMeta(file, "png", 9, 9, 8, 255.0, patient_id="P")
        boxes, scores, labels = np.array([[1.0, 2, 3, 4]]), np.array([score]), np.zeros(1, np.int64)
        return Prediction(file, meta, ImageTransform.identity((9, 9)), boxes, scores, labels, {"malignant": score})


@pytest.fixture
def inbox(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(1, 6):
        (folder / f"{number}.png").write_text(f"0.{number}" if number != 4 else "bad")
    return folder


def predict(inbox, out, model, **options):
    out.mkdir(exist_ok=True)
    options = RunOptions(out, **options)
    return PredictionRun(model, find_images([inbox]), CLASSES, options, {"a": 1}, {"description": "d"})()


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "id_salt.txt"}


def test_saliency_maps_are_written_when_asked_for(inbox, tmp_path):
    class WithMaps(Model):
        def _outcome(self, *of):
            outcome = super()._outcome(*of)
            maps = np.full((1, 2, 3), 0.25, np.float16)
            return outcome if isinstance(outcome, FileProblem) else replace(outcome, saliency=maps)

    predict(inbox, tmp_path / "out", WithMaps(), saliency=True)
    names = [f"{n:05d}_{n}.npz" for n in (1, 2, 3, 5)]
    assert sorted(path.name for path in (tmp_path / "out" / "saliency").iterdir()) == names
    read = read_saliency(find_saliency(tmp_path / "out", 5))
    assert (read.classes, read.transform.source_size) == (("malignant",), (9, 9))
    assert (read.on_source() == 0.25).all()
    predict(inbox, tmp_path / "without", WithMaps())
    assert not (tmp_path / "without" / "saliency").exists()


@pytest.mark.parametrize("size", [1, 2])
def test_pictures_are_drawn_while_the_model_works_on_the_next_batch(inbox, tmp_path, monkeypatch, size):
    begun, drawn = {number: threading.Event() for number in range(1, 7)}, []

    class Noted(Model):
        def _outcome(self, number, file, together):
            begun[number].set()
            return super()._outcome(number, file, together)

    def draw(folder, number, *of):
        if number + size <= 5:
            assert begun[number + size].wait(10), "the model waits for the picture"
        drawn.append(number)

    monkeypatch.setattr(prediction_run, "write_picture", draw)
    predict(inbox, tmp_path / "out", Noted(), pictures=True, batch_size=size)
    predict(inbox, tmp_path / "without", Model(), batch_size=size)
    assert drawn == [1, 2, 3, 5]
    same = [(tmp_path / name / "predictions.jsonl").read_text().splitlines() for name in ("out", "without")]
    assert [json.loads(line).get("boxes") for line in same[0]] == [json.loads(line).get("boxes") for line in same[1]]


def test_what_came_before_an_error_is_kept_with_its_pictures(inbox, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(prediction_run, "write_picture", lambda folder, number, *of: drawn.append(number))

    class Broken(Model):
        def _outcome(self, number, file, together):
            if number == 3:
                raise RuntimeError("no memory")
            return super()._outcome(number, file, together)

    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="no memory"):
        predict(inbox, out, Broken(), pictures=True)
    assert drawn == [1, 2]
    again = Model()
    predict(inbox, out, again, pictures=True, resume=True)
    assert again.batches == [[3], [4], [5]]


def test_a_picture_that_cannot_be_written_ends_the_run(inbox, tmp_path, monkeypatch):
    def full(folder, number, *of):
        if number == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(prediction_run, "write_picture", full)
    with pytest.raises(OSError, match="No space left"):
        predict(inbox, tmp_path / "out", Model(), pictures=True)
    again = Model()
    monkeypatch.setattr(prediction_run, "write_picture", lambda *of: None)
    predict(inbox, tmp_path / "out", again, pictures=True, resume=True)
    assert again.batches[0] == [2]


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("size", [1, 2])
def test_a_stopped_and_resumed_run_has_the_same_files(inbox, tmp_path, capsys, monkeypatch, size, pictures):
    monkeypatch.setattr(prediction_run, "write_picture", lambda *of: None)
    options = {"batch_size": size, "pictures": pictures}
    whole = tmp_path / "whole"
    counts = predict(inbox, whole, Model(), **options)
    assert (counts.images, counts.boxes, counts.problems) == (4, 4, 1)
    out = tmp_path / "out"
    out.mkdir()
    (out / "id_salt.txt").write_bytes((whole / "id_salt.txt").read_bytes())
    with pytest.raises(SystemExit) as stop:
        predict(inbox, out, Model(stop_at=[2]), **options)
    assert stop.value.code == 128 + signal.SIGTERM
    assert f"has the results of {1 if size == 2 else 2} of 5 files" in capsys.readouterr().err
    assert (out / "predictions.json").is_file()
    again = Model()
    predict(inbox, out, again, **options, resume=True)
    assert again.batches == ([[3], [4], [5]] if size == 1 else [[1, 2], [3, 4], [5]])
    assert contents(out) == contents(whole)
    # All done but the bad one, which is tried again.
    again = Model()
    predict(inbox, out, again, **options, resume=True)
    assert again.batches == ([[4]] if size == 1 else [[3, 4]])
    assert contents(out) == contents(whole)


def test_new_and_changed_files_are_predicted_and_numbers_stay(inbox, tmp_path):
    out = tmp_path / "out"
    predict(inbox, out, Model())
    (inbox / "0.png").write_text("0.9")  # sorted before all others
    (inbox / "4.png").write_text("0.7")
    os.utime(inbox / "5.png", ns=(1, 1))
    (inbox / "1.png").unlink()  # its result stays
    model = Model()
    counts = predict(inbox, out, model, resume=True)
    assert model.batches == [[4], [5], [6]]
    assert (counts.images, counts.problems) == (6, 0)
    lines = (out / "image_scores.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    assert [(row[0], os.path.basename(row[1])) for row in rows] == [
        ("1", "1.png"), ("2", "2.png"), ("3", "3.png"), ("4", "4.png"), ("5", "5.png"), ("6", "0.png"),
    ]  # fmt: skip
    predict(inbox, out, Model())  # anew, without --resume
    assert len((out / "image_scores.csv").read_text().splitlines()) == 6


def test_the_secret_of_the_hashes_is_made_once(inbox, tmp_path):
    out = tmp_path / "out"
    predict(inbox, out, Model(), keep_ids=True)
    assert not (out / "id_salt.txt").exists()
    predict(inbox, out, Model(), id_salt="s")
    assert not (out / "id_salt.txt").exists()
    predict(inbox, out, Model())
    salt, first = (out / "id_salt.txt").read_text(), contents(out)
    predict(inbox, out, Model())
    assert (out / "id_salt.txt").read_text() == salt
    assert contents(out) == first


def test_numbers_of_files():
    assert numbered(["a", "b"], {}) == [(1, "a"), (2, "b")]
    assert numbered(["a", "b", "c"], {"b": 2}) == [(1, "a"), (2, "b"), (3, "c")]
    assert numbered(["c", "d", "a"], {"a": 1, "gone": 3, "c": 2}) == [(1, "a"), (2, "c"), (4, "d")]


def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    """What Python holds at most for 15 and for 150 files of 40 boxes each."""

    file = tmp_path / "0.png"
    file.write_text("0.5")

    def model(batches, *, strict, pictures):
        one = Model()._outcome(1, str(file), 1)
        boxes, scores = np.tile(one.boxes, (40, 1)), np.repeat(one.scores, 40)
        for ((_, name),) in batches:
            yield [replace(one, file=name, boxes=boxes.copy(), scores=scores.copy(), labels=np.zeros(40, np.int64))]

    def peak(count):
        out = tmp_path / f"out{count}"
        out.mkdir()
        found = replace(find_images([file]), files=[f"{number}.png" for number in range(count)])
        run = PredictionRun(model, found, CLASSES, RunOptions(out, keep_ids=True), {}, {})
        tracemalloc.start()
        try:
            run()
            return tracemalloc.get_traced_memory()[1], (out / "predictions.json").stat().st_size
        finally:
            tracemalloc.stop()

    few, small = peak(15)
    many, large = peak(150)
    assert large > 9 * small > 5e5
    assert many < 1.5 * few


@pytest.mark.slow
@pytest.mark.usefixtures("hidden_gpus")
def test_two_processes_give_the_files_of_one(tmp_path):
    cfg = brightest_cfg(tmp_path, "INPUT.SIZE", "[60, 100]", "DATALOADER.NUM_WORKERS", "1")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    for seed in range(5):
        write_mammogram(tmp_path / "in" / f"{seed}.png", seed)
    (tmp_path / "in" / "3.png").write_bytes(b"damaged")
    arguments = [
        "--config-file", str(tmp_path / "config.yaml"), "--weights", cfg.MODEL.WEIGHTS, "--batch-size", "2", "--quiet",
        "--pictures", "--input",
    ]  # fmt: skip
    everything = [*arguments, str(tmp_path / "in"), "--output"]
    assert run([*everything, str(tmp_path / "one")]) == 3
    # The first file by one process that was ended then, the rest by two.
    assert run([*arguments, str(tmp_path / "in" / "0.png"), "--output", str(tmp_path / "two")]) == 0
    script = tmp_path / "command.py"
    script.write_text(
        "if __name__ == '__main__':\n"
        "    from tests.inference import tiny_model\n"
        "    from mammo_d2.cli.main import main\n"
        "    main()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    argv = ["predict", *everything, str(tmp_path / "two"), "--resume"]
    done = subprocess.run([*command, *argv], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "1 of 5 files were left out" in done.stderr, done.stderr[-2000:]
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*.*")) == sorted(
        [*names, Path("id_salt.txt")]
    )
    for name in names:
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes(), name
