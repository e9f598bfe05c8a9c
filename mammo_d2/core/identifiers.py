"""Identifiers of patients and exams, hashed before they are written: those of DICOM files are personal data."""

from __future__ import annotations

import hashlib
import hmac


def hashed_identifier(text: str, salt: str = "") -> str:
    """The first 16 hexadecimal digits of HMAC-SHA256; equal texts give equal hashes under the same salt.

    Args:
        text: the identifier.
        salt: the secret key. Without one, a short identifier is found again by hashing all possible ones.
    """
    return hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()[:16]
