"""Lossless JPEG streams as the PVRG program writes them; its own decoder reads these, too."""

import struct

import numpy as np


def pvrg_stream(pixels: np.ndarray, *, bits: int = 12, predictor: int = 7, header_size=None, categories=17) -> bytes:
    """Encode uint16 (H, W); ``header_size`` (height, width) replaces the true one in the header.

    All codes have five bits: category n is n. ``categories`` 16 to 1 leave out the last ones, -1 category 0.
    """
    values = pixels.reshape(header_size or pixels.shape).astype(int)
    height, width = values.shape
    half = 1 << (bits - 1)
    above, text = np.full(width, half), []
    for row in values:
        for x, value in enumerate(row):
            if x == 0:
                prediction = above[0]
            else:
                a, b, c = row[x - 1], above[x], above[x - 1]
                prediction = (a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)[predictor - 1]
            difference = (int(value) - int(prediction) + 0x8000) % 0x10000 - 0x8000
            category = abs(difference).bit_length()
            text.append(f"{category - (categories < 0):05b}")
            if category and category < 16:
                number = difference if difference > 0 else difference + (1 << category) - 1
                text.append(f"{number:0{category}b}")
        above = row
    stream = "".join(text)
    stream += "1" * (-len(stream) % 8)
    entropy = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")
    symbols = bytes(range(1, 17)) if categories < 0 else bytes(range(categories))
    counts = bytes([0, 0, 0, 0, len(symbols), *[0] * 11])
    frame = struct.pack(">BHHBBBB", bits, height, width, 1, 1, 0x11, 0)
    return b"".join(
        (
            b"\xff\xd8", b"\xff\xc3", struct.pack(">H", 2 + len(frame)), frame,
            b"\xff\xc4", struct.pack(">H", 3 + 16 + len(symbols)), b"\0", counts, symbols,
            b"\xff\xda", struct.pack(">HBBBBBB", 8, 1, 1, 0, predictor, 0, 0),
            entropy, b"\xff\xd9",
        )
    )  # fmt: skip
