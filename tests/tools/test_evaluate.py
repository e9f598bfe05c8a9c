"""tools/evaluate.py on what tools/predict.py writes."""

import json

import pytest

from mammo_d2.cli.common import run_tool
from tests.evaluation.files.test_predicted_files import PREPARED, SOURCE, write_predictions, write_truth


def test_the_tool_evaluates_predictions(tmp_path, load_tool, capsys):
    truth = write_truth(tmp_path)
    predictions = write_predictions(tmp_path, ("p/1.dcm", (100, 90), SOURCE), ("p/2.dcm", (40, 30), PREPARED))
    arguments = ["--ground-truth", str(truth), "--bootstrap", "0", "--output", str(tmp_path / "out")]
    assert load_tool("evaluate").run([*arguments, str(predictions), "--image-scores", str(predictions)]) == 0
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    metrics = content["systems"]["predictions"]["metrics"]
    # The hit has the lower score of the two boxes.
    assert metrics["froc/malignant/sens@0.25"]["value"] == 0
    assert metrics["froc/malignant/sens@0.5"]["value"] == 1
    capsys.readouterr()
    (tmp_path / "image_scores.csv").write_text("image_id,file,patient_id,laterality,view,malignant\n1,p/1.dcm,,,,0.5\n")
    with pytest.raises(SystemExit):
        run_tool(load_tool("evaluate").run, [*arguments, "--image-scores", str(tmp_path / "image_scores.csv")])
    assert "numbers of files that tools/predict.py gave" in capsys.readouterr().err
