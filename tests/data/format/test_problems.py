import copy
import json

import pytest

from mammo_d2.data.format.annotations import load_coco, validate_coco
from mammo_d2.data.format.problems import SchemaError
from tests.data.format.coco_content import BOX, GOOD, changed


def test_message_is_one_line_with_everything(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(changed([*BOX, "bbox"], [10, 20, 0, 40])))
    with pytest.raises(SchemaError) as caught:
        load_coco(tmp_path / "t.json")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/t.json: annotation 1.bbox = [10, 20, 0, 40]: has zero or negative area; a box")
    assert "\n" not in text


def test_several_errors_are_lines(tmp_path):
    data = changed([*BOX, "bbox"], [10, 20, 0, 40])
    data["annotations"][0]["category_id"] = 77
    (tmp_path / "t.json").write_text(json.dumps(data))
    with pytest.raises(SchemaError, match=r"^2 errors\nerror: .*77.*\nerror: .*zero or negative area"):
        load_coco(tmp_path / "t.json")


def test_report_limits_what_it_prints():
    data = copy.deepcopy(GOOD)
    data["annotations"] = [{"id": i, "image_id": 9, "category_id": 1, "bbox": [1, 1, 1, 1]} for i in range(1, 31)]
    lines = validate_coco(data).format(limit=3).splitlines()
    assert len(lines) == 5
    assert lines[3:] == ["error: ... and 27 more of unknown-image", "30 errors, 0 warnings"]
