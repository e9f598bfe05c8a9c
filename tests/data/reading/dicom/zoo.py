"""More than a hundred small DICOM files of every kind: how they are made, and what must be read.

A case is right if ``read_dicom`` gives its pixels, or refuses the file with a message that matches. The pixels of a
case are those that were encoded; the grey scale is computed here in its own few lines from the standard (PS3.3 C.11.1,
C.11.2, C.7.6.3), not with pydicom's functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence

from mammo_d2.data.reading.image_meta import ReadOptions
from tests.data.dicom_files import make_dataset

SIZE = (24, 20)
LITTLE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian)
BIG = uid.ExplicitVRBigEndian
GE_PRIVATE = uid.UID("1.2.840.113619.5.2")
# Bits stored and sign of the images that every lossless syntax is tried with.
DEPTHS = ((8, False), (10, False), (12, False), (16, False), (12, True), (16, True))


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        name: of the test.
        dataset: what is written.
        pixels: (H, W) that must be read; None: the file must be refused.
        refusal: regular expression of the message.
        tolerance: largest difference, for lossy compression and rounding of tables.
        options: how it is read.
        stored: the encoded values, for independent decoders; None where they are not asked.
        change: what is done to the bytes of the file.
    """

    name: str
    dataset: Dataset
    pixels: np.ndarray | None = None
    refusal: str = ""
    tolerance: float = 0.0
    options: ReadOptions = field(default_factory=ReadOptions)
    stored: np.ndarray | None = None
    change: Callable[[bytes], bytes] | None = None

    def write(self, path: Path) -> Path:
        """Write the file."""
        self.dataset.save_as(path, enforce_file_format=True)
        if self.change:
            path.write_bytes(self.change(path.read_bytes()))
        return path


def image(bits: int, signed: bool = False, seed: int = 0) -> np.ndarray:
    """Random values over the whole range, its ends included, smooth enough for lossy codecs."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, SIZE[0])[:, None] * np.linspace(0.2, 1, SIZE[1]) + rng.normal(0, 0.01, SIZE)
    values = np.rint(ramp.clip(0, 1) * (2**bits - 1)).astype(np.int64)
    values[0, 0], values[-1, -1] = 0, 2**bits - 1
    values -= 2 ** (bits - 1) if signed else 0
    container = 1 if bits <= 8 else 2
    return values.astype(f"{'i' if signed else 'u'}{container}")


def shown(stored: np.ndarray, bits: int, signed: bool = False) -> np.ndarray:
    """What is read of a file without any grey-scale tag: values from 0 on."""
    return stored.astype(np.float64) + (2 ** (bits - 1) if signed else 0)


def encoded(stored: np.ndarray, frames: list[bytes], syntax: str, bits: int, extended: bool = False, **tags: Any):
    """A dataset with compressed frames, one fragment each."""
    dataset = make_dataset(stored, BitsStored=bits, **tags)
    dataset.file_meta.TransferSyntaxUID = syntax
    if extended:
        dataset.PixelData, table, lengths = encapsulate_extended(frames)
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = table, lengths
    else:
        dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    return dataset


def unsigned(stored: np.ndarray, bits: int) -> np.ndarray:
    """The lowest bits as an unsigned stream has them."""
    container = np.dtype(f"u{stored.dtype.itemsize}")
    return stored.view(container) & container.type(2**bits - 1)


ENCODERS: dict[str, tuple[str, Callable[[np.ndarray, int], bytes]]] = {
    "jpeg lossless": (uid.JPEGLosslessSV1, lambda a, bits: imagecodecs.ljpeg_encode(a, bitspersample=bits)),
    "jpeg lossless process 14": (uid.JPEGLossless, lambda a, bits: imagecodecs.ljpeg_encode(a, bitspersample=bits)),
    "jpeg-ls": (uid.JPEGLSLossless, lambda a, bits: imagecodecs.jpegls_encode(a)),
    "jpeg 2000": (
        uid.JPEG2000Lossless,
        lambda a, bits: imagecodecs.jpeg2k_encode(a, codecformat="J2K", reversible=True, bitspersample=bits),
    ),
    "htj2k": (uid.HTJ2KLossless, lambda a, bits: imagecodecs.htj2k_encode(a, reversible=True)),
}


def uncompressed() -> Iterator[Case]:
    for bits, signed in DEPTHS:
        stored = image(bits, signed)
        kind = f"{bits} bits{' signed' if signed else ''}"
        for syntax in LITTLE:
            dataset = make_dataset(stored, BitsStored=bits)
            dataset.file_meta.TransferSyntaxUID = syntax
            yield Case(f"{syntax.name}, {kind}", dataset, shown(stored, bits, signed), stored=stored)
        big = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
        dataset = Dataset()  # not a FileDataset, which keeps its byte order
        dataset.update(make_dataset(stored, BitsStored=bits, PixelData=big))
        dataset.file_meta = make_dataset(stored).file_meta
        dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
        dataset.file_meta.TransferSyntaxUID = BIG
        yield Case(f"{BIG.name}, {kind}", dataset, shown(stored, bits, signed))
        rle = make_dataset(stored, BitsStored=bits)
        rle.compress(uid.RLELossless)
        yield Case(f"RLE, {kind}", rle, shown(stored, bits, signed), stored=stored)


def lossless() -> Iterator[Case]:
    for name, (syntax, encode) in ENCODERS.items():
        for bits, signed in DEPTHS:
            stored = image(bits, signed)
            frame = bytes(encode(unsigned(stored, bits), bits))
            # Other decoders differ in what they make of signed values in streams that know no sign.
            asked = None if signed else stored
            yield Case(
                f"{name}, {bits} bits{' signed' if signed else ''}", encoded(stored, [frame], syntax, bits),
                shown(stored, bits, signed), stored=asked,
            )  # fmt: skip


def lossy() -> Iterator[Case]:
    eight, twelve = image(8), image(12)
    cases = (
        ("jpeg baseline", uid.JPEGBaseline8Bit, eight, 8, imagecodecs.jpeg8_encode(eight, level=98), 6),
        ("jpeg extended", uid.JPEGExtended12Bit, twelve, 12,
         imagecodecs.jpeg8_encode(twelve, level=98, bitspersample=12), 100),
        ("jpeg-ls near lossless, 8 bits", uid.JPEGLSNearLossless, eight, 8,
         imagecodecs.jpegls_encode(eight, level=2), 2),
        ("jpeg-ls near lossless, 12 bits", uid.JPEGLSNearLossless, twelve, 12,
         imagecodecs.jpegls_encode(twelve, level=3), 3),
        ("jpeg 2000 lossy", uid.JPEG2000, twelve, 12,
         imagecodecs.jpeg2k_encode(twelve, level=60, codecformat="J2K", reversible=False, bitspersample=12), 100),
    )  # fmt: skip
    for name, syntax, stored, bits, frame, tolerance in cases:
        yield Case(name, encoded(stored, [bytes(frame)], syntax, bits), shown(stored, bits), tolerance=tolerance)


# --- grey scale -------------------------------------------------------------------------------------------------------
def lut(entries: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


def grey(value: float, top: float, tags: dict[str, Any]) -> float:
    """The grey of one stored value, by the standard, between 0 and ``top``; before inversion and padding."""
    x = value * tags.get("RescaleSlope", 1) + tags.get("RescaleIntercept", 0)
    if "ModalityLUTSequence" in tags:
        x = tags["ModalityLUTSequence"][0].LUTData[int(value)]
    if "VOILUTSequence" in tags:
        item = tags["VOILUTSequence"][0]
        entries, first = list(item.LUTData), int(item.LUTDescriptor[1])
        return float(entries[int(min(max(round(x) - first, 0), len(entries) - 1))])
    center, width = tags["WindowCenter"], tags["WindowWidth"]
    center, width = (v[0] if isinstance(v, list) else v for v in (center, width))
    function = tags.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        return top / (1 + math.exp(-4 * (x - center) / width))
    if function == "LINEAR" and width == 1:  # a step
        return top if x > center - 0.5 else 0.0
    share = (x - center) / width + 0.5 if function == "LINEAR_EXACT" else (x - (center - 0.5)) / (width - 1) + 0.5
    return top * min(max(share, 0.0), 1.0)


def grey_scale() -> Iterator[Case]:
    ramp = [min(4 * i, 1023) for i in range(300)]
    modes: dict[str, dict[str, Any]] = {
        "linear window": {"WindowCenter": 1800, "WindowWidth": 1500},
        "window of width 1": {"WindowCenter": 2000, "WindowWidth": 1},
        "exact window": {"WindowCenter": 1800, "WindowWidth": 1500.5, "VOILUTFunction": "LINEAR_EXACT"},
        "sigmoid": {"WindowCenter": 2048, "WindowWidth": 900, "VOILUTFunction": "SIGMOID"},
        "two windows": {"WindowCenter": [1000, 3000], "WindowWidth": [1001, 11]},
        "rescaled window": {"WindowCenter": 0, "WindowWidth": 800, "RescaleSlope": 0.5, "RescaleIntercept": -1024},
        "falling rescale": {"WindowCenter": -2000, "WindowWidth": 3000, "RescaleSlope": -1, "RescaleIntercept": 0},
        "window of a Modality LUT's values": {
            "ModalityLUTSequence": Sequence([lut([i // 2 for i in range(4096)], 0, 16)]),
            "WindowCenter": 900, "WindowWidth": 1200,
        },
        "VOI LUT": {"VOILUTSequence": Sequence([lut(ramp, 1000, 10)])},
        "VOI LUT of rescaled values": {
            "VOILUTSequence": Sequence([lut(ramp, -200, 10)]), "RescaleSlope": 0.25, "RescaleIntercept": -512,
        },
    }  # fmt: skip
    stored = image(12)
    for name, tags in modes.items():
        top = 1023.0 if "VOILUTSequence" in tags else 4095.0
        for photometric in ("MONOCHROME2", "MONOCHROME1"):
            read = np.vectorize(lambda v, t=tags, k=top: grey(float(v), k, t))(stored)
            read = top - read if photometric == "MONOCHROME1" else read
            dataset = make_dataset(stored, **tags, PhotometricInterpretation=photometric)
            yield Case(f"{name}, {photometric}", dataset, read, tolerance=0.01)
    for bits, signed in DEPTHS:
        stored = image(bits, signed)
        dataset = make_dataset(stored, BitsStored=bits, PhotometricInterpretation="MONOCHROME1")
        name = f"MONOCHROME1, {bits} bits{' signed' if signed else ''}"
        yield Case(name, dataset, 2**bits - 1 - shown(stored, bits, signed))


def padding() -> Iterator[Case]:
    stored = image(12)
    for photometric in ("MONOCHROME2", "MONOCHROME1"):
        for first, last in ((4095, None), (0, None), (3000, 4095), (4095, 3000)):
            tags = {"PixelPaddingValue": first, **({} if last is None else {"PixelPaddingRangeLimit": last})}
            low, high = min(first, first if last is None else last), max(first, first if last is None else last)
            read = stored.astype(float) if photometric == "MONOCHROME2" else 4095.0 - stored
            read[(stored >= low) & (stored <= high)] = 0
            dataset = make_dataset(stored, PhotometricInterpretation=photometric, **tags)
            yield Case(f"padding {first} {last}, {photometric}", dataset, read)
    signed = image(12, True)
    read = shown(signed, 12, True)
    read[signed == -2048] = 0
    yield Case("padding -2048, signed", make_dataset(signed, PixelPaddingValue=-2048), read)


# --- odd files --------------------------------------------------------------------------------------------------------
def odd() -> Iterator[Case]:
    stored = image(12)
    read = stored.astype(float)

    def plain(name: str, change: Callable[[bytes], bytes] | None = None, **tags: Any) -> Case:
        return Case(name, make_dataset(stored, **tags), read, change=change)

    yield plain("empty window", WindowCenter="", WindowWidth="")
    yield plain("window centre without width", WindowCenter=2000)
    yield plain("no manufacturer, no identifiers", Manufacturer=None, PatientID=None, StudyInstanceUID=None)
    yield plain("no High Bit", HighBit=None)
    yield plain("pixel data with two bytes too many", PixelData=stored.tobytes() + b"\0\0")
    yield plain("other character set", SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎")
    yield plain("wrong aspect ratio", PixelAspectRatio=["0", "0"])
    yield plain("spacing of 0", ImagerPixelSpacing=[0, 0])
    yield plain("view and side of nonsense", ViewPosition="???", ImageLaterality="X")
    yield plain("zeros behind the end", change=lambda data: data + b"\0" * 64)
    yield plain("preamble that is not zero", change=lambda data: b"II*\0" * 32 + data[128:])
    private = make_dataset(stored)
    private.private_block(0x0011, "ODD MAKER", create=True).add_new(0x01, "UN", b"\1\2\3\4")
    yield Case("private tags", private, read)
    trailing = make_dataset(stored)
    trailing.add_new(0xFFFCFFFC, "OB", b"\0" * 10)
    yield Case("trailing padding element", trailing, read)
    nested = make_dataset(stored)
    item = Dataset()
    item.PixelSpacing, item.Rows = [9, 9], 3
    nested.SourceImageSequence = Sequence([item])
    nested["SourceImageSequence"].is_undefined_length = True
    yield Case("sequence of undefined length that names rows", nested, read)
    # Old files have an overlay plane in the unused bits.
    overlaid = make_dataset(stored | (np.arange(20, dtype=np.uint16) % 2 << 15))
    overlaid.HighBit = 11
    yield Case("overlay in the unused bits", overlaid, read)
    upper = make_dataset((stored << 4).astype(np.uint16), HighBit=15)
    yield Case("values in the upper bits", upper, read)
    frame = bytes(imagecodecs.jpegls_encode(stored))
    yield Case("extended offset table", encoded(stored, [frame], uid.JPEGLSLossless, 12, extended=True), read)
    pieces = encoded(stored, [frame], uid.JPEGLSLossless, 12)
    pieces.PixelData = encapsulate([frame], fragments_per_frame=3)
    yield Case("frame in three fragments", pieces, read)
    no_table = encoded(stored, [frame], uid.JPEGLSLossless, 12)
    no_table.PixelData = encapsulate([frame], has_bot=False)
    yield Case("no offset table", no_table, read)
    jp2 = bytes(imagecodecs.jpeg2k_encode(stored, codecformat="JP2", reversible=True, bitspersample=12))
    yield Case("JP2 container in DICOM", encoded(stored, [jp2], uid.JPEG2000Lossless, 12), read)
    for shape in ((1, 1), (1, 20), (24, 1)):
        part = np.ascontiguousarray(stored[: shape[0], : shape[1]])
        yield Case(f"{shape[0]} x {shape[1]} pixels", make_dataset(part), part.astype(float))
    frames = np.stack([stored, stored[::-1]])
    tomo = make_dataset(frames, NumberOfFrames=2)
    yield Case("second frame asked for", tomo, read[::-1], options=ReadOptions(frame=1))
    raw = make_dataset(stored, PresentationIntentType="FOR PROCESSING")
    yield Case("raw image asked for", raw, read, options=ReadOptions(for_processing=True))
    capture = make_dataset(stored, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT")
    yield Case("secondary capture", capture, read)


def refused() -> Iterator[Case]:
    stored = image(12)
    colours = np.zeros((*SIZE, 3), np.uint8)

    def coloured(photometric: str, **tags: Any) -> Dataset:
        # The shape's last two sides would be taken for rows and columns.
        return make_dataset(colours, Rows=SIZE[0], Columns=SIZE[1], SamplesPerPixel=3, PlanarConfiguration=0,
                            PhotometricInterpretation=photometric, **tags)  # fmt: skip

    for photometric in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "HSV"):
        yield Case(f"colours {photometric}", coloured(photometric), refusal=rf"colour image \({photometric}\)")
    palette = make_dataset(image(8), BitsStored=8, PhotometricInterpretation="PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        palette.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        palette.add_new(f"{name}PaletteColorLookupTableData", "OW", np.arange(256, dtype="<u2").tobytes())
    yield Case("palette", palette, refusal=r"colour image \(PALETTE COLOR\)")
    yield Case("no photometric interpretation", make_dataset(stored, PhotometricInterpretation=None),
               refusal="colour image|damaged")  # fmt: skip
    floats = make_dataset(stored, PixelData=None, BitsAllocated=32)
    floats.FloatPixelData = stored.astype("<f4").tobytes()
    yield Case("float pixels", floats, refusal="Bits Allocated 32")
    yield Case("32 bits", make_dataset(stored.astype(np.uint32), BitsStored=32), refusal="Bits Allocated 32")
    yield Case("1 bit", make_dataset(np.zeros((24, 3), np.uint8), BitsAllocated=1, BitsStored=1, Columns=24),
               refusal="Bits Allocated 1 ")  # fmt: skip
    yield Case("Bits Stored 0", make_dataset(stored, BitsStored=0, HighBit=0), refusal="Bits Stored 0")
    yield Case("Bits Stored 20", make_dataset(stored, BitsStored=20), refusal="Bits Stored 20")
    yield Case("two frames", make_dataset(np.stack([stored, stored]), NumberOfFrames=2), refusal="2 frames")
    yield Case("raw", make_dataset(stored, PresentationIntentType="FOR PROCESSING"), refusal="FOR PROCESSING")
    yield Case("no pixels", make_dataset(stored, PixelData=None), refusal="without pixel data")
    report = make_dataset(stored, PixelData=None, Rows=None, Columns=None, SOPClassUID=uid.BasicTextSRStorage)
    yield Case("structured report", report, refusal=r"without pixel data \(Basic Text SR Storage\)")
    yield Case("fewer pixels than rows", make_dataset(stored, Rows=30), refusal="cannot be decoded|cut off")
    for syntax in (uid.MPEG2MPML, uid.MPEG4HP41, uid.HEVCMP51, GE_PRIVATE):
        dataset = encoded(stored, [b"\0" * 64], syntax, 12)
        yield Case(f"syntax {syntax}", dataset, refusal="transfer syntax|cannot be decoded|damaged")
    for name, (syntax, encode) in ENCODERS.items():
        frame = bytes(encode(stored, 12))
        yield Case(f"{name}, cut off", encoded(stored, [frame[: len(frame) // 2]], syntax, 12), refusal="cannot be dec")
        larger = np.zeros((48, 20), np.uint16)
        wrong = encoded(larger, [bytes(encode(larger, 12))], syntax, 12)
        wrong.Rows = 24
        yield Case(f"{name}, another size", wrong, refusal="the stream has|cannot be decoded")
    yield Case(
        "cut off", make_dataset(stored), refusal="cut off|truncated|cannot be dec", change=lambda data: data[:-100]
    )
    yield Case("not DICOM", make_dataset(stored), refusal="not a DICOM", change=lambda data: b"text " * 100)


def zoo() -> list[Case]:
    """All cases; their names differ."""
    cases = [*uncompressed(), *lossless(), *lossy(), *grey_scale(), *padding(), *odd(), *refused()]
    assert len({case.name for case in cases}) == len(cases)
    return cases
