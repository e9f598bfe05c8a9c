import json

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.engine.run_files.run_record import (
    IGNORED,
    RECORD_FILE,
    RunConflictError,
    claim_folders,
    fingerprint,
    run_record,
)
from mammo_d2.experiments.search.search_ranges import value_of
from tests.data.toy_dataset import write_dataset


def claim(folder, *overrides, **options):
    claim_folders({folder: load_config("", list(overrides))}, **options)


def begin(folder, *overrides):
    """A run with a checkpoint."""
    claim(folder, *overrides)
    (folder / "model_0000001.pth").write_bytes(b"weights")


def test_an_unchanged_config_goes_on_and_the_record_stays(tmp_path):
    begin(tmp_path, "SOLVER.BASE_LR", "0.02", "DATASETS.TRAIN", "('unknown',)")
    before = (tmp_path / RECORD_FILE).read_text()
    claim(tmp_path, "DATASETS.TRAIN", "['unknown']", "SOLVER.BASE_LR", "2e-2", "OUTPUT_DIR", "elsewhere")
    assert (tmp_path / RECORD_FILE).read_text() == before
    assert json.loads(before)["SOLVER.BASE_LR"] == 0.02


def test_the_message_has_folder_first_differences_and_remedy(tmp_path):
    begin(tmp_path)
    changes = ["SOLVER.BASE_LR", "0.02", "SOLVER.MAX_ITER", "7", "SOLVER.GAMMA", "0.5", "SOLVER.STEPS", "(5,)"]
    with pytest.raises(RunConflictError) as caught:
        claim(tmp_path, *changes)
    assert str(caught.value) == (
        f"{tmp_path} holds a run of another config or other data: SOLVER.BASE_LR: 0.001 then, 0.02 now; "
        "SOLVER.GAMMA: 0.1 then, 0.5 now; SOLVER.MAX_ITER: 40000 then, 7 now; and 1 more. "
        f"Name another --output, or delete {tmp_path} to run it anew"
    )


def test_ignored_keys_are_keys_of_the_config():
    cfg = load_config()
    for key in IGNORED:
        value_of(cfg, key)
    assert not IGNORED & run_record(cfg).keys()


def test_ignored_keys_are_accepted(tmp_path):
    begin(tmp_path)
    claim(tmp_path, "DATALOADER.NUM_WORKERS", "9", "MODEL.DEVICE", "cpu", "MODEL.LESION.CACHE", "c")
    assert fingerprint(load_config("", ["MODEL.DEVICE", "cpu"])) == fingerprint(load_config())
    assert fingerprint(load_config("", ["SEED", "2"])) != fingerprint(load_config())


def test_a_folder_without_results_may_be_begun_anew(tmp_path):
    claim(tmp_path, "SOLVER.BASE_LR", "0.02")
    (tmp_path / "metrics.json").touch()  # a training that failed at its first step leaves it
    claim(tmp_path, "SOLVER.BASE_LR", "0.03")
    assert json.loads((tmp_path / RECORD_FILE).read_text())["SOLVER.BASE_LR"] == 0.03


@pytest.mark.parametrize("name", ["model_final.pth", "patch/model_best.pth", "inference/d/metrics.json", "study.log"])
def test_what_counts_as_a_result(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("{}")
    with pytest.raises(RunConflictError, match=rf"there is no {RECORD_FILE} to tell what it was made with"):
        claim(tmp_path)


def test_without_resume_a_run_begins_anew(tmp_path):
    begin(tmp_path)
    claim(tmp_path, "SEED", "5", resume=False)
    assert json.loads((tmp_path / RECORD_FILE).read_text())["SEED"] == 5
    claim(tmp_path, "SEED", "6", resume=False, write=False)
    assert json.loads((tmp_path / RECORD_FILE).read_text())["SEED"] == 5


def test_one_conflict_keeps_all_records_as_they_are(tmp_path):
    begin(tmp_path / "old")
    cfg = load_config("", ["SEED", "5"])
    with pytest.raises(RunConflictError, match="old holds"):
        claim_folders({tmp_path / "new": cfg, tmp_path / "old": cfg})
    assert not (tmp_path / "new").exists()


def test_a_key_younger_than_the_run_counts_with_its_default(tmp_path):
    begin(tmp_path)
    record = json.loads((tmp_path / RECORD_FILE).read_text())
    del record["TEST.LESION.CROPS"]
    (tmp_path / RECORD_FILE).write_text(json.dumps({**record, "GONE": 1}))
    with pytest.raises(
        RunConflictError, match=r"TEST.LESION.CROPS: 'probability' then, 'logit' now; GONE: 1 then, 'ab"
    ):
        claim(tmp_path, "TEST.LESION.CROPS", "logit")
    (tmp_path / RECORD_FILE).write_text(json.dumps(record))
    claim(tmp_path)


def test_files_count_with_their_content_wherever_they_lie(tmp_path):
    run, moved = tmp_path / "run", tmp_path / "moved"
    weights = tmp_path / "start.pth"
    weights.write_bytes(b"one")
    stage = f"['MODEL.WEIGHTS', '{weights}']"
    begin(run, "MODEL.WEIGHTS", str(weights), "MODEL.LESION.PATCH_STAGE", stage)
    moved.mkdir()
    (moved / "start.pth").write_bytes(b"one")
    claim(run, "MODEL.WEIGHTS", str(moved / "start.pth"), "MODEL.LESION.PATCH_STAGE", stage)
    weights.write_bytes(b"two")
    # The first digits of sha256 of "one" and of "two".
    message = (
        r"MODEL.WEIGHTS: 'start.pth \(SHA-256 7692c3ad3540bb80\)' then, 'start.pth \(SHA-256 3fc4ccfe745870e2\)' now"
    )
    with pytest.raises(RunConflictError, match=message):
        claim(run, "MODEL.WEIGHTS", str(weights), "MODEL.LESION.PATCH_STAGE", f"['MODEL.WEIGHTS', '{moved}/start.pth']")
    with pytest.raises(RunConflictError, match=r"PATCH_STAGE: \['MODEL.WEIGHTS', 'start.pth \(SHA-256 7692"):
        claim(run, "MODEL.WEIGHTS", str(moved / "start.pth"), "MODEL.LESION.PATCH_STAGE", stage)


def test_other_annotations_are_other_data(tmp_path):
    for root in ("a", "b"):
        write_dataset(tmp_path / root, positives=2, negatives=2)
    run = tmp_path / "run"
    names = ["DATASETS.TRAIN", "('toy_train',)", "DATASETS.ROOT"]
    begin(run, *names, str(tmp_path / "a"))
    claim(run, *names, str(tmp_path / "b"))  # the same, elsewhere
    path = tmp_path / "b" / "toy" / "annotations" / "train.json"
    coco = json.loads(path.read_text())
    coco["annotations"].pop()
    path.write_text(json.dumps(coco))
    with pytest.raises(RunConflictError, match=r"annotations of toy_train: 'train.json \(SHA-256 \w{16}\)' then"):
        claim(run, *names, str(tmp_path / "b"))
