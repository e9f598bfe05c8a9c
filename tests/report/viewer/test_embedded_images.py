"""Images and maps in the page: pixels that come back, sizes, and what cannot be read."""

import base64
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mammo_d2.data.reading.reader import read_image
from mammo_d2.pictures.drawing import to_display
from mammo_d2.report.viewer.embedded_images import as_grey, encode_jpeg, image_blocks
from mammo_d2.report.viewer.viewed_data import SystemOutput, viewer_data
from tests.report.viewer.scenes import make_dataset

BLOCK = re.compile(
    r'<script type="text/plain" id="([^"]+)" data-type="([^"]+)"( data-problem="[^"]*")?>(.*)</script>\n'
)


def blocks_of(datasets, limit=100, side=None):
    """{id: (kind, problem, decoded bytes)}."""
    found = {}
    for block in image_blocks(datasets, viewer_data(datasets, limit), side):
        name, kind, problem, text = BLOCK.fullmatch(block).groups()
        found[name] = (kind, problem, base64.b64decode(text))
    return found


def pixels_of(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def test_pixels_are_those_of_the_display(tmp_path):
    dataset = make_dataset(tmp_path)
    blocks = blocks_of([dataset])
    assert list(blocks) == ["px-0", "px-1", "px-2", "px-3"]
    kind, problem, data = blocks["px-0"]
    assert (kind, problem) == ("image/jpeg", None)
    shown = to_display(read_image(dataset.records[0]["file_name"])[0])
    assert pixels_of(data).shape == shown.shape == (80, 60)
    assert np.abs(pixels_of(data).astype(int) - shown).mean() < 3
    assert pixels_of(blocks_of([dataset], side=40)["px-0"][2]).shape == (40, 30)


def test_only_the_chosen_images_are_read(tmp_path):
    dataset = make_dataset(tmp_path)
    assert list(blocks_of([dataset], limit=1)) == ["px-3"]  # an exam of three images is too large


def test_maps_of_every_class(tmp_path):
    path = tmp_path / "maps.npz"
    np.savez(path, a=np.stack([np.zeros((4, 3)), np.eye(4, 3)]).astype(np.float16))
    system = SystemOutput("model", None, None, [path] * 4)
    blocks = blocks_of([replace(make_dataset(tmp_path), systems=[system])])
    assert pixels_of(blocks["map-0-0-1"][2]).tolist() == (255 * np.eye(4, 3)).tolist()
    assert blocks["map-0-0-0"][0] == "image/png"
    assert blocks["map-1-0-0"][1:] == (' data-problem="no map"', b"")
    assert as_grey(np.array([[-1, 0.5, 2]])).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("content", [b"", b"broken"])
def test_unreadable_image_is_named_and_escaped(tmp_path, content, caplog):
    dataset = make_dataset(tmp_path)
    name = tmp_path / "<b>&\"'.png"
    name.write_bytes(content)
    dataset.records[1]["file_name"] = str(name)
    blocks = blocks_of([dataset])
    assert blocks["px-1"][2] == b""
    assert "&lt;b&gt;&amp;&quot;" in blocks["px-1"][1]
    assert "image b left out" in caplog.text


@pytest.mark.parametrize("shape", [(1, 1), (3, 700)])
def test_odd_sizes(shape):
    data = encode_jpeg(np.zeros(shape, np.uint8))
    assert pixels_of(data).shape == shape
