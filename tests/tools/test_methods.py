"""A config given to a tool that is not for its job: the message names what to do, and nothing is written."""

import pytest

from mammo_d2.cli.arguments.command_line import run_tool
from tests.conftest import ROOT

LESION, GMIC = (str(ROOT / "configs/quickstart" / f"phantom_{name}.yaml") for name in ("lesion_context", "gmic"))


@pytest.mark.parametrize(
    ("tool", "config", "arguments", "expected"),
    [
        ("train_net", LESION, ["JOB", "SingleStageJob"], ["LesionContextClassifier", "set JOB LesionContextJob"]),
        ("train_net", GMIC, ["JOB", "LesionContextJob"], ["META_ARCHITECTURE is GMIC: leave out JOB"]),
        ("train_net", GMIC, ["JOB", "Job"], ["JOB is 'Job'; the registered jobs are BackboneJob, LesionContextJob, "]),
        ("train_net", GMIC, ["--shared-only"], ["--shared-only: runs of JOB SingleStageJob share nothing"]),
        (
            "predict",
            LESION,
            ["--weights", "none.pth", "--input", "none", "--output", "predictions"],
            ["JOB is LesionContextJob", "use mammo-d2 classify-lesions"],
        ),
        (
            "classify_lesions",
            GMIC,
            ["--dataset", "none_test", "--output", "predictions"],
            ["JOB is SingleStageJob (GMIC)", "use mammo-d2 predict"],
        ),
    ],
)
def test_the_right_tool_is_named(load_tool, tmp_path, monkeypatch, capsys, tool, config, arguments, expected):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        run_tool(load_tool(tool).run, ["--config-file", config, *arguments, "OUTPUT_DIR", "out"])
    assert stop.value.code == 2
    message = capsys.readouterr().err.splitlines()
    assert len(message) == 1
    for part in ("error: ", *expected):
        assert part in message[0]
    assert not list(tmp_path.iterdir())
