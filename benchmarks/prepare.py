"""Preparing a data set: images a second and core by the source's transfer syntax, and memory over many images.

One image, a file of yours or drawn, is written as DICOM of 12 bits: raw, JPEG lossless and JPEG 2000. All are prepared
in this process, in turns; seconds are CPU seconds. Memory is what the process holds after
each quarter of ``--images`` further images.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    generate_uid,
)
from tabulate import tabulate

from benchmarks.memory import resident_mib
from mammo_d2.data.converters.converter import Converter, SourceImage
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.prepared_image import PIXEL_FORMATS, ImageOptions
from mammo_d2.data.prepare.workers import run_images
from mammo_d2.data.reading.image_meta import ReadOptions
from mammo_d2.data.reading.reader import read_image

SYNTAXES = {
    "raw": (ExplicitVRLittleEndian, lambda pixels: None),
    "JPEG lossless": (JPEGLosslessSV1, lambda pixels: imagecodecs.ljpeg_encode(pixels, bitspersample=12)),
    "JPEG 2000": (JPEG2000Lossless, lambda pixels: imagecodecs.jpeg2k_encode(
        pixels, reversible=True, bitspersample=12, codecformat="j2k", numthreads=1)),
}  # fmt: skip
QUARTERS = 4


class Repeated(Converter):
    """A data set whose images are one file, ``count`` times under other names."""

    name = "benchmark"

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(path.parent)
        self.path, self.count = path, count

    def images(self) -> Iterator[SourceImage]:
        """See the base class."""
        for number in range(self.count):
            yield SourceImage(self.path, f"{self.path.stem}_{number}", self.path.name, patient_id=str(number))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's arguments."""
    parser.add_argument("--image", type=Path, default=None, help="a mammogram of 12 bits [a drawn one]")
    parser.add_argument("--repeats", type=int, default=3, help="images of each kind")
    parser.add_argument("--images", type=int, default=500, help="images of the memory's curve (0: none)")
    parser.add_argument("--max-side", type=int, default=0, help="reduce the image first, for a short run")


def run(args: argparse.Namespace) -> None:
    """Print both tables."""
    pixels = source_pixels(args.image, args.max_side)
    print(f"image of {pixels.shape[0]} x {pixels.shape[1]} pixels, {(pixels > 0).mean():.0%} not 0")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {syntax: write_source(folder, syntax, pixels) for syntax in SYNTAXES}
        print(tabulate(throughput(files, folder / "out", args.repeats), "keys", "github", floatfmt=".2f"))
        if args.images:
            print(tabulate(memory(files["JPEG lossless"], folder / "many", args.images), "keys", "github", ".0f"))


def source_pixels(path: Path | None, max_side: int) -> np.ndarray:
    """uint16 pixels in 0..4095 of a file, or of a drawn breast with noise."""
    if path is None:
        rows, columns = np.mgrid[:3328, :2560].astype(np.float32)
        inside = ((rows - 1664) / 1400) ** 2 + (columns / 1100) ** 2 < 1
        noise = np.random.default_rng(0).normal(1800, 60, inside.shape)
        image = np.where(inside, noise + 600 * np.sin(rows / 90) * np.sin(columns / 70), 0)
    else:
        image, meta = read_image(path)
        if image.max() < 4096 < meta.max_value:
            image, meta = read_image(path, ReadOptions(bits=12))
        image = image * (4095 / meta.max_value)
    if max_side:
        step = -(-max(image.shape) // max_side)
        image = image[::step, ::step]
    return np.ascontiguousarray(image.round().clip(0, 4095).astype(np.uint16))


def write_source(folder: Path, syntax: str, pixels: np.ndarray) -> Path:
    """A mammogram's DICOM file in a transfer syntax."""
    uid, encode = SYNTAXES[syntax]
    path = folder / f"{syntax.replace(' ', '_')}.dcm"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = generate_uid(), UID(uid)
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PresentationIntentType = "MG", "FOR PRESENTATION"
    dataset.PatientID, dataset.StudyInstanceUID = "p", generate_uid()
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    frame = encode(pixels)
    dataset.PixelData = pixels.tobytes() if frame is None else encapsulate([bytes(frame)])
    dataset["PixelData"].VR = "OW" if frame is None else "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def throughput(files: dict[str, Path], out: Path, repeats: int) -> list[dict[str, object]]:
    """A row per source and format of the prepared files: CPU seconds an image, images a second and core."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats + 1):
        for syntax, path in files.items():
            for pixels in PIXEL_FORMATS:
                options = PrepareOptions(ImageOptions(crop=True, pixels=pixels), force=True, progress=False)
                converter = Repeated(path, 1)
                start = time.process_time()
                (outcome,) = run_images(converter, list(converter.images()), options, out)
                seconds.setdefault((syntax, pixels), []).append(time.process_time() - start)
                if outcome.image is None:
                    raise ValueError(outcome.issues[0].problem)
    rows = []
    for (syntax, pixels), several in seconds.items():
        median = float(np.median(several[1:]))  # the first loads libraries
        rows.append({"source": syntax, "prepared": pixels, "CPU s / image": median, "images / s / core": 1 / median})
    return rows


def memory(path: Path, out: Path, images: int) -> list[dict[str, object]]:
    """Resident MiB of this process after each quarter of the images."""
    converter = Repeated(path, images)
    options = PrepareOptions(ImageOptions(crop=True, pixels="tiff"), force=True, progress=False)
    rows: list[dict[str, object]] = []
    for number, _ in enumerate(run_images(converter, list(converter.images()), options, out), start=1):
        if number == min(10, images) or number * QUARTERS % images < QUARTERS:
            rows.append({"images": number, "resident MiB": resident_mib()})
    return rows
