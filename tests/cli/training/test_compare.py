"""The command: folds of a data set, baselines, the page of pictures."""

from mammo_d2.cli.training import compare, train
from mammo_d2.experiments import cells
from tests.data.toy_dataset import write_dataset

ROWS = """
centre: {config: "mammo_d2://baselines/center_prior.yaml"}
blob: {config: "mammo_d2://baselines/brightest_blob.yaml", opts: [MODEL.BASELINE.COUNT, 4]}
"""


def test_folds_of_the_baselines(tmp_path, monkeypatch, capsys):
    def in_process(folder, name, config, overrides, jobs, *flags):
        assert train.run([*flags, "--config-file", config, *overrides, "OUTPUT_DIR", str(folder)]) == 0

    monkeypatch.setattr(cells, "run_job", in_process)
    write_dataset(tmp_path, positives=4, negatives=4, split="train")
    (tmp_path / "rows.yaml").write_text(ROWS)
    output = tmp_path / "out"
    arguments = ["--rows", str(tmp_path / "rows.yaml"), "--dataset", str(tmp_path / "toy"), "--folds", "2"]
    arguments += ["--no-validation", "--output", str(output), "--pictures", "2"]
    assert compare.run([*arguments, "--opts", "MODEL.DEVICE", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "Data: toy, 2 patient-wise folds (seed 0). Class: malignant." in text
    assert "hit: centre in box" in text
    table = next(line for line in text.splitlines() if line.startswith("| centre"))
    # The image score of the centre is the same everywhere: an AUC of one half, in every draw.
    assert table.split("|")[2].strip() == "0.500 (0.500 to 0.500)"
    assert sorted(path.name for path in output.iterdir()) == [
        "blob", "centre", "compare.csv", "compare.html", "compare.json", "compare.md", "paired_malignant.json",
    ]  # fmt: skip
    page = (output / "compare.html").read_text()
    assert page.count('data-type="image/jpeg">/9j/') == 2
    assert '"name":"centre"' in page
    assert "prediction, s/image" in page
    # The tables again, with another reference, by the folders alone.
    arguments[1] = str(tmp_path / "rows.yaml")
    assert compare.run([*arguments, "--tables-only", "--reference", "blob", "--hit", "iou", "--threshold", "0.1"]) == 0
    text = capsys.readouterr().out
    assert "Difference to blob" in text
    assert "hit: IoU >= 0.1" in text
