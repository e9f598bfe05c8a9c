"""DICOM's grey-scale pipeline: Modality LUT, VOI LUT or window, inversion of MONOCHROME1, padding to background.

Every step works on single pixel values, so the whole pipeline is applied once to a table of all stored values (at most
65,536) with pydicom's functions, and the image is looked up in it. Standard: DICOM PS3.3 C.8.11.3.1.2, C.11.1, C.11.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

from mammo_d2.data.reading.dicom.tags import text_of
from mammo_d2.data.reading.image_meta import FULL_SCALE_16_BIT, ReadOptions


@dataclass(frozen=True)
class GreyTable:
    """The output value of every stored value.

    Attributes:
        first: stored value of the table's first entry.
        values: float32, one entry per stored value, in [0, max_value]; 0 is background.
        max_value: full scale, 2^bits - 1.
        voi: the VOI transformation that was applied.
        warnings: what was wrong with the file's own description.
    """

    first: int
    values: np.ndarray
    max_value: float
    voi: str
    warnings: tuple[str, ...]

    def apply(self, stored: np.ndarray) -> np.ndarray:
        """Look up an image (H, W) of stored values; float32."""
        if self.first == 0 and stored.dtype.kind == "u":
            index = stored
        else:
            index = stored.astype(np.int32) - self.first
        # Lossy compression can overshoot the stored range by a little.
        return self.values.take(index, mode="clip")


def grey_table(dataset: Dataset, options: ReadOptions) -> GreyTable:
    """Build the table for one image; see the module's docstring.

    Args:
        dataset: an image with Bits Stored <= 16.
        options: which VOI transformation to apply.
    """
    bits = int(dataset.BitsStored)
    signed = int(dataset.get("PixelRepresentation", 0)) == 1
    first = -(1 << (bits - 1)) if signed else 0
    stored = np.arange(first, first + (1 << bits), dtype=np.int32)
    warnings: list[str] = []

    rescaled = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    if not np.isfinite(rescaled).all() or np.ptp(rescaled) == 0:
        slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
        warnings.append(f"unusable Modality LUT (Rescale Slope {slope}, Intercept {intercept}), stored values taken")
        rescaled = stored.astype(np.float64)
    values = rescaled
    low, high = float(values.min()), float(values.max())
    voi = options.voi_for(text_of(dataset, "Manufacturer"))
    has_lut = bool(dataset.get("VOILUTSequence"))
    has_window = dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None
    if voi == "auto":
        voi = "lut" if has_lut else "window" if has_window else "none"
    if (voi == "lut" and not has_lut) or (voi == "window" and not has_window):
        warnings.append(f"no VOI {voi} in the file, values left as they are")
        voi = "none"
    if voi != "none":
        try:
            values, low, high = _apply_voi(values, dataset, voi, options.voi_index, low, high)
        except (ValueError, IndexError, AttributeError, TypeError, NotImplementedError) as error:
            warnings.append(f"unusable VOI {voi} ({error}), values left as they are")
            voi = "none"
        if np.ptp(values) == 0:
            warnings.append(f"the VOI {voi} maps every value to one, values left as they are")
            values = rescaled
            low, high, voi = float(values.min()), float(values.max()), "none"

    out_bits = bits
    if voi == "lut":
        out_bits = int(dataset.VOILUTSequence[options.voi_index].LUTDescriptor[2])
        used = max(int(values.max()), 1).bit_length()
        if used <= out_bits - 2:
            warnings.append(f"the VOI LUT says {out_bits} bits, but its values have {used}, which are taken")
            out_bits = used
            high = float((1 << used) - 1)
    max_value = float((1 << min(max(out_bits, 1), 16)) - 1)
    values = (values - low) * (max_value / (high - low) if high > low else 0.0)
    values = values.clip(0, max_value)
    if text_of(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        values = max_value - values
    _blank_padding(values, dataset, first, warnings)
    return GreyTable(first, values.astype(np.float32), max_value, voi, tuple(warnings))


def _apply_voi(
    values: np.ndarray, dataset: Dataset, voi: str, index: int, low: float, high: float
) -> tuple[np.ndarray, float, float]:
    """The VOI step: output values with the ends of their nominal range."""
    if voi == "lut":
        bits = int(dataset.VOILUTSequence[index].LUTDescriptor[2])
        out = apply_voi(np.rint(values).astype(np.int64), dataset, index)
        # Some files declare fewer bits than their table uses.
        return np.asarray(out, dtype=np.float64), 0.0, float(max((1 << bits) - 1, out.max()))
    # pydicom maps the window to a range that it takes from the rescale and Bits Stored: with a negative slope its ends
    # are exchanged. It is asked for 0 to 65535.
    window = Dataset()
    for keyword in ("PhotometricInterpretation", "WindowCenter", "WindowWidth", "VOILUTFunction"):
        if keyword in dataset:
            window[keyword] = dataset[keyword]
    window.BitsStored, window.PixelRepresentation = 16, 0
    out = np.asarray(apply_windowing(values, window, index), dtype=np.float64)
    if not np.isfinite(out).all():
        raise ValueError(f"Window Center {dataset.WindowCenter}, Width {dataset.WindowWidth} give no numbers")
    return out, 0.0, FULL_SCALE_16_BIT


def _blank_padding(values: np.ndarray, dataset: Dataset, first: int, warnings: list[str]) -> None:
    """Set the entries of Pixel Padding Value (.. Range Limit) to background, in place."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None or padding == "":
        return
    ends = [int(padding)]
    limit = dataset.get("PixelPaddingRangeLimit")
    if limit is not None and limit != "":
        ends.append(int(limit))
    if first < 0:
        # A signed image whose padding was written with an unsigned value representation.
        ends = [end - 65536 if end > 32767 else end for end in ends]
    start, stop = min(ends) - first, max(ends) - first
    if stop < 0 or start >= len(values):
        warnings.append(f"Pixel Padding Value {padding} is outside the range of stored values, ignored")
        return
    values[max(start, 0) : stop + 1] = 0.0
