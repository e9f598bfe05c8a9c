"""Identifiers of patients and exams, hashed before they are written: those of DICOM files are personal data."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from mammo_d2.core.files import read_text, write_bytes_atomic

#: Holds the secret text in the hashes of a folder's files; not to be given away with them.
SALT_FILE = "id_salt.txt"


def hashed_identifier(text: str, salt: str = "") -> str:
    """The first 16 hexadecimal digits of HMAC-SHA256; equal texts give equal hashes under the same salt.

    Args:
        text: the identifier.
        salt: the secret key. Without one, a short identifier is found again by hashing all possible ones.
    """
    return hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()[:16]


def read_salt(folder: str | os.PathLike[str]) -> str | None:
    """The secret text in the hashes of a folder's files; None if it has none.

    Raises:
        ValueError: its file is empty.
    """
    path = Path(folder) / SALT_FILE
    if not path.is_file():
        return None
    salt = read_text(path).strip()
    if not salt:
        raise ValueError(f"{path}: empty; write the salt into it again, or name another folder for the results")
    return salt


def make_salt(folder: str | os.PathLike[str]) -> str:
    """Write a new random secret text into a folder, so that repeated runs give the same hashes, and return it.

    Of several processes that do so at the same time, all get the text of the first.
    """
    path, salt = Path(folder) / SALT_FILE, new_salt()
    temporary = path.with_name(f".{SALT_FILE}.{secrets.token_hex(4)}")
    write_bytes_atomic(temporary, f"{salt}\n".encode())
    temporary.chmod(0o600)
    try:
        os.link(temporary, path)
    except FileExistsError:
        salt = read_salt(folder) or salt
    except OSError:  # a file system without links
        return write_salt(folder, salt)
    finally:
        temporary.unlink()
    return salt


def new_salt() -> str:
    """A random secret text of 32 hexadecimal digits."""
    return secrets.token_hex(16)


def write_salt(folder: str | os.PathLike[str], salt: str) -> str:
    """Write a secret text into a folder, for the owner of the file alone, and return it."""
    path = Path(folder) / SALT_FILE
    write_bytes_atomic(path, f"{salt}\n".encode())
    path.chmod(0o600)
    return salt
