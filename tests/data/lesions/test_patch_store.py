"""Memory-mapped images and the patches cut out of them."""

import cv2
import numpy as np
import pytest

from mammo_d2.data.lesions.patch_store import STEPS, PatchStore, cut_patch
from mammo_d2.data.reading.tiff_tiles import encode_tiff_tiles, scale_to_16_bit


def write_image(path, pixels):
    assert cv2.imwrite(str(path), pixels)
    return {"file_name": str(path), "image_id": 7, "height": pixels.shape[0], "width": pixels.shape[1]}


def test_a_16_bit_image_is_kept_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 30), dtype=np.uint16)
    image = PatchStore(tmp_path / "store").open(write_image(tmp_path / "a.png", pixels))
    assert isinstance(image, np.memmap)
    np.testing.assert_array_equal(image, pixels)


def test_values_are_those_of_the_mapper(tmp_path):
    pixels = np.array([[0, 255], [51, 102]], np.uint8)
    store = PatchStore(tmp_path / "store")
    patch = store.read_patch(write_image(tmp_path / "a.png", pixels), (0, 0, 2, 2), 2)
    np.testing.assert_allclose(patch, pixels, atol=1e-4)


def test_an_image_is_decoded_once_and_found_by_content(tmp_path):
    pixels = np.full((8, 8), 300, np.uint16)
    record = write_image(tmp_path / "a.png", pixels)
    path = PatchStore(tmp_path / "store").path(record)
    written = path.stat().st_mtime_ns
    copy = write_image(tmp_path / "b.png", pixels)
    assert PatchStore(tmp_path / "store").path(copy) == path
    assert path.stat().st_mtime_ns == written
    other = write_image(tmp_path / "a.png", pixels + 1)
    assert PatchStore(tmp_path / "store").path(other) != path
    assert PatchStore(tmp_path / "store", "minmax").path(copy) != path
    assert sorted(p.suffix for p in (tmp_path / "store").rglob("*") if p.is_file()) == [".npy"] * 3


def test_bad_records_are_named(tmp_path):
    record = write_image(tmp_path / "a.png", np.zeros((8, 8), np.uint16))
    store = PatchStore(tmp_path / "store")
    with pytest.raises(ValueError, match=r"image 7.*8x8.*9x8"):
        store.open({**record, "height": 9})
    with pytest.raises(FileNotFoundError, match=r"image 7.*no such image file"):
        store.open({**record, "file_name": str(tmp_path / "absent.png")})


def test_halving_averages_areas_and_outside_is_zero():
    image = (np.arange(16).reshape(4, 4) * STEPS).astype(np.uint16)
    np.testing.assert_allclose(cut_patch(image, (0, 0, 4, 4), 2), [[2.5, 4.5], [10.5, 12.5]], atol=1e-3)
    patch = cut_patch(image, (-1, 2, 3, 6), 4)
    np.testing.assert_allclose(patch, [[0, 8, 9, 10], [0, 12, 13, 14], [0] * 4, [0] * 4], atol=1e-3)


def test_rotation_is_counter_clockwise_about_the_centre():
    """A spot right of the window's centre goes up; the distance stays."""
    image = np.zeros((200, 200), np.uint16)
    image[98:103, 128:133] = round(200 * STEPS)
    for angle in (30.0, -30.0):
        patch = cut_patch(image, (50, 50, 150, 150), 100, angle)
        rows, columns = np.nonzero(patch > 100)
        turn = np.deg2rad(angle)
        assert columns.mean() + 0.5 == pytest.approx(50 + 30.5 * np.cos(turn) + 0.5 * np.sin(turn), abs=0.6)
        assert rows.mean() + 0.5 == pytest.approx(50 - 30.5 * np.sin(turn) + 0.5 * np.cos(turn), abs=0.6)


def test_rotation_shows_the_image_at_the_corners_and_keeps_the_mean():
    image = np.full((300, 300), round(100 * STEPS), np.uint16)
    patch = cut_patch(image, (50, 50, 250, 250), 64, 30.0)
    np.testing.assert_allclose(patch, 100.0, atol=1e-2)
    # What falls outside the image is 0 also when turned.
    assert cut_patch(image, (-150, -150, 50, 50), 64, 20.0)[0, 0] == 0.0


def test_a_small_turn_is_close_to_none():
    smooth = cv2.GaussianBlur(np.random.default_rng(1).random((300, 300)) * 60000, (0, 0), 12).astype(np.uint16)
    for side in (100, 180):
        turned = cut_patch(smooth, (40, 40, 40 + side, 40 + side), 100, 1e-4)
        np.testing.assert_allclose(turned, cut_patch(smooth, (40, 40, 40 + side, 40 + side), 100), atol=0.3)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 4095)])
def test_patches_of_a_file_in_tiles_are_those_of_the_stored_image(tmp_path, dtype, top):
    pixels = np.random.default_rng(0).integers(0, top + 1, (600, 400)).astype(dtype)
    if top == 4095:
        pixels = scale_to_16_bit(pixels.astype(np.float32), top).astype(np.uint16)
    record = write_image(tmp_path / "a.png", pixels)
    (tmp_path / "a.tif").write_bytes(encode_tiff_tiles(pixels, top))
    tiled = {**record, "file_name": str(tmp_path / "a.tif")}
    stored, direct = PatchStore(tmp_path / "store"), PatchStore(tmp_path / "none")
    for window, rotation in [((10, 20, 210, 220), 0.0), ((-30, 500, 170, 700), 0.0), ((200, 300, 300, 400), 20.0)]:
        expected = stored.read_patch(record, window, 64, rotation)
        np.testing.assert_array_equal(direct.read_patch(tiled, window, 64, rotation), expected)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match=r"image 7.*600x400.*9x400"):
        direct.open({**tiled, "height": 9})
    with pytest.raises(FileNotFoundError, match=r"image 7.*no such image file"):
        direct.open({**tiled, "file_name": str(tmp_path / "absent.tif")})
    # The range of the whole image is needed: it is stored.
    whole = PatchStore(tmp_path / "minmax", "minmax")
    np.testing.assert_array_equal(whole.open(tiled), PatchStore(tmp_path / "minmax", "minmax").open(record))
    assert whole.path(tiled).is_file()
