"""The kinds of files: one function each that writes a mutated file of a seed and reads it as the package does.

A reader returns None where what it read is plausible, or a text that says what is wrong with it.
"""

from __future__ import annotations

import io
import json
import logging
import pickle
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import torch
from pydicom import uid
from pydicom.encaps import encapsulate

from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import config_names, find_config
from mammo_d2.data.converters.truth_files import Truth
from mammo_d2.data.format.annotations import check_splits, load_coco
from mammo_d2.data.reading.image_meta import ReadOptions
from mammo_d2.data.reading.reader import image_size, read_image
from mammo_d2.data.reading.tiff_tiles import encode_tiff_tiles, tiff_tags
from mammo_d2.evaluation.files.coco_files import load_ground_truth
from mammo_d2.evaluation.files.detection_files import load_detections
from mammo_d2.framework.weights.weight_files import read_weight_file
from tests.data.dicom_files import make_dataset
from tests.fuzz.mutations import NUMBERS, mutated_bytes, mutated_json, mutated_png, mutated_text

PIXELS = (np.add.outer(np.arange(24), np.arange(20)) * 90).astype(np.uint16)  # 12 bits
SYNTAXES: dict[str, Callable[[np.ndarray], bytes] | None] = {
    uid.ExplicitVRLittleEndian: None,
    uid.ImplicitVRLittleEndian: None,
    uid.DeflatedExplicitVRLittleEndian: None,
    uid.RLELossless: None,
    uid.JPEG2000Lossless: lambda a: imagecodecs.jpeg2k_encode(a, codecformat="J2K", reversible=True),
    uid.HTJ2KLossless: lambda a: imagecodecs.htj2k_encode(a, reversible=True),
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEGLosslessSV1: lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12),
    uid.JPEGExtended12Bit: lambda a: imagecodecs.jpeg8_encode(a, level=95, bitspersample=12),
}
TAGS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope",
    "RescaleIntercept", "PixelSpacing", "ImagerPixelSpacing", "ImageLaterality", "ViewPosition", "PatientOrientation",
    "PresentationIntentType", "PatientID", "SOPClassUID", "PixelData", "PixelPaddingValue", "BurnedInAnnotation",
)  # fmt: skip
TAG_VALUES = (
    None, "", "x", "nan", "inf", "-1", "1e400", "\\", "1\\2\\3", "MONOCHROME1", "RGB", "PALETTE COLOR", "SIGMOID", "ä",
    b"", b"\0", 0.0, -1.5, 1e300, [], [0, 0], ["1", "x"],
)  # fmt: skip
COCO = {
    "images": [
        {
            "id": n, "file_name": f"p/{n}.png", "height": 60, "width": 50, "patient_id": f"P{n // 2}", "exam_id": "1",
            "laterality": "LR"[n % 2], "view": "CC", "pixel_spacing": [0.1, 0.1], "birads": "4", "density": "b",
            "pixel_spacing_source": "ImagerPixelSpacing", "breast_box": [0, 0, 40, 60], "split": "train",
            "labels": {"malignant": int(n < 3), "benign": 0}, "source": {"file": "a.dcm", "sha256": f"{n:064}"},
            "transform": {"source_size": [60, 50], "crop": [0, 0, 50, 60], "scale": [1.0, 1.0], "flip": False},
        }
        for n in (1, 2, 3)
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [5, 5, 10, 10], "area": 100, "iscrowd": 0,
         "pathology": "malignant", "lesion_id": "1", "segmentation": [[5, 5, 15, 5, 15, 15]]},
    ],
    "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
}  # fmt: skip
TABLE = (
    "file,patient_id,exam_id,laterality,view,category,x,y,width,height,malignant,benign,split\n"
    'p/1.png,P0,1,L,CC,malignant,5,5,10.5,10,1,0,train\n"p/2, b.png",P1,1,R,MLO,,,,,,0,0,val\n'
)
RESULTS = "image_id,category_id,x,y,width,height,score\n1,2,5,5,10,10,0.5\n2,1,4,5,6,7,0.25\n"


@cache
def _dicom(syntax: str) -> bytes:
    """A valid file in a transfer syntax."""
    return _saved(_dicom_dataset(syntax))


def _dicom_dataset(syntax: str) -> Any:
    dataset = make_dataset(PIXELS, WindowCenter="1800", WindowWidth="3600", ImagerPixelSpacing=["0.1", "0.1"])
    encode = SYNTAXES[syntax]
    if syntax == uid.RLELossless:
        dataset.compress(uid.RLELossless)
    elif encode is not None:
        dataset.PixelData = encapsulate([encode(PIXELS)])
        dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    return dataset


def _saved(dataset: Any) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def dicom(folder: Path, random_: random.Random) -> str | None:
    """A DICOM file in one of nine transfer syntaxes: changed bytes, or tags with other values."""
    syntax = random_.choice(list(SYNTAXES))
    data = _dicom(syntax)
    if random_.random() < 0.4:
        dataset = _dicom_dataset(syntax)
        for name in random_.sample(TAGS, random_.randint(1, 3)):
            try:
                setattr(dataset, name, random_.choice(TAG_VALUES + NUMBERS))
                data = _saved(dataset)
            except Exception:  # pydicom cannot write every value
                continue
    else:
        data = mutated_bytes(data, random_, header=1000)
    path = folder / "case.dcm"
    path.write_bytes(data)
    return _read_image(path, random_)


def raster(folder: Path, random_: random.Random) -> str | None:
    """PNG, TIFF, PGM or JPEG: changed bytes, in a PNG with right checksums as well."""
    suffix = random_.choice([".png", ".tif", ".pgm", ".jpg"])
    pixels = PIXELS if suffix != ".jpg" and random_.random() < 0.5 else (PIXELS // 16).astype(np.uint8)
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    if suffix == ".pgm" and random_.random() < 0.3:
        data = f"P2\n20 24\n{pixels.max()}\n{' '.join(map(str, pixels.ravel()))}\n".encode()
    if suffix == ".png" and random_.random() < 0.7:
        data = mutated_png(data, random_)
    elif suffix == ".pgm" and random_.random() < 0.3:
        data = mutated_text(data, random_)
    else:
        data = mutated_bytes(data, random_)
    path = folder / f"case{suffix}"
    path.write_bytes(data)
    return _read_image(path, random_)


@cache
def _tiles() -> bytes:
    """Prepared pixels in four tiles."""
    return encode_tiff_tiles(np.random.default_rng(0).integers(0, 65536, (300, 280)).astype(np.uint16))


def tiles(folder: Path, random_: random.Random) -> str | None:
    """TIFF in tiles: changed bytes, and changed tiles with right checksums."""
    data = _tiles()
    if random_.random() < 0.5:
        tags = tiff_tags(data)
        number = random_.randrange(len(tags[324]))
        start, count = tags[324][number], tags[325][number]
        tile = mutated_bytes(data[start : start + count], random_)[:count].ljust(count, b"\0")
        old, new = (struct.pack("<I", zlib.crc32(part)) for part in (data[start : start + count], tile))
        head = data[: tags[324][0]].replace(old, new)
        data = head + data[len(head) : start] + tile + data[start + count :]
    else:
        data = mutated_bytes(data, random_, header=400)
    path = folder / "case.tif"
    path.write_bytes(data)
    return _read_image(path, random_)


def _read_image(path: Path, random_: random.Random) -> str | None:
    options = random_.choice([None, ReadOptions(bits=12), ReadOptions(frame=0, for_processing=True)])
    pixels, meta = read_image(path, options)
    if pixels.dtype != np.float32 or pixels.shape != (meta.height, meta.width) or not pixels.size:
        return f"pixels {pixels.dtype} {pixels.shape}, meta {meta.height} x {meta.width}"
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= meta.max_value):
        return f"pixels from {pixels.min()} to {pixels.max()}, maximum {meta.max_value}"
    if meta.pixel_spacing and not all(0 < value < np.inf for value in meta.pixel_spacing):
        return f"pixel spacing {meta.pixel_spacing}"
    size = image_size(path)
    return None if size == pixels.shape else f"image_size {size}, pixels {pixels.shape}"


def coco(folder: Path, random_: random.Random) -> str | None:
    """An annotation file: other values, or changed text; read by training, ``validate`` and ``prepare --truth``."""
    path = folder / "case.json"
    if random_.random() < 0.7:
        path.write_bytes(mutated_json(COCO, random_))
    else:
        path.write_bytes(mutated_text(json.dumps(COCO).encode(), random_))
    content = load_coco(path)
    check_splits([path])
    Truth(path)
    for image in content["images"]:
        if not (image["height"] > 0 and image["width"] > 0) or ".." in image["file_name"].split("/"):
            return f"image {image}"
    for annotation in content["annotations"]:
        if not (np.isfinite(annotation["bbox"]).all() and min(annotation["bbox"][2:]) >= 0):
            return f"annotation {annotation}"
    return None


def csv(folder: Path, random_: random.Random) -> str | None:
    """A truth table of ``prepare``, or a table of detections for ``evaluate``."""
    path = folder / "case.csv"
    if random_.random() < 0.6:
        path.write_bytes(mutated_text(TABLE.encode(), random_))
        Truth(path)
        return None
    path.write_bytes(mutated_text(RESULTS.encode(), random_))
    truth = folder / "truth.json"
    truth.write_text(json.dumps(COCO))
    table, _ = load_detections(path, load_ground_truth(truth))
    return None if np.isfinite(table.scores).all() else f"scores {table.scores}"


def yaml(folder: Path, random_: random.Random) -> str | None:
    """A config file of the package with changed text."""
    source = Path(find_config(random_.choice(config_names())))
    path = folder / "case.yaml"
    text = source.read_text(encoding="utf-8").replace('_BASE_: "', f'_BASE_: "{source.parent}/')
    path.write_bytes(mutated_text(text.encode(), random_))
    load_config(str(path))
    return None


@cache
def _weights(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "pkl":
        arrays = {"conv1_w": np.arange(12.0).reshape(3, 4), "conv1_b": np.float32([1, 2, 3])}
        return pickle.dumps({"model": arrays, "__author__": "x"}, protocol=2)
    tensors = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2), "n": torch.tensor(3)}
    content = {"model": tensors, "iteration": 7, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    torch.save(content, stream, _use_new_zipfile_serialization=kind == "zip")
    return stream.getvalue()


def checkpoint(folder: Path, random_: random.Random) -> str | None:
    """A checkpoint of torch in its two formats, or a pickle of arrays as in model zoos, with changed bytes."""
    kind = random_.choice(["zip", "legacy", "pkl"])
    path = folder / ("case.pkl" if kind == "pkl" else "case.pth")
    path.write_bytes(mutated_bytes(_weights(kind), random_))
    content = read_weight_file(str(path))
    return None if isinstance(content, dict) and isinstance(content["model"], dict) else f"read {content!r:.200}"


KINDS: dict[str, Callable[[Path, random.Random], str | None]] = {
    "dicom": dicom, "raster": raster, "tiles": tiles, "coco": coco, "csv": csv, "yaml": yaml, "checkpoint": checkpoint,
}  # fmt: skip

if find_spec("highdicom"):  # of the extra dicom-export
    from tests.fuzz.export_case import export

    KINDS["export"] = export


def read_case(kind: str, seed: int, folder: Path) -> str | None:
    """Make the case of a kind and seed in a folder and read it; see the module's docstring."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return KINDS[kind](folder, random.Random(f"{kind} {seed}"))
