"""Hashes of identifiers against an independent HMAC."""

import pytest

from mammo_d2.core.identifiers import hashed_identifier, make_salt, read_salt


def test_known_values():
    # RFC 4231, test case 2.
    assert hashed_identifier("what do ya want for nothing?", "Jefe") == "5bdcc146bf60754e"
    assert hashed_identifier("P1") == hashed_identifier("P1") != hashed_identifier("P1", "salt")


def test_the_salt_of_a_folder(tmp_path):
    assert read_salt(tmp_path) is None
    salt = make_salt(tmp_path)
    assert len(salt) == 32
    assert read_salt(tmp_path) == salt != make_salt(tmp_path / "other")
    (tmp_path / "id_salt.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"id_salt\.txt: empty; write the salt into it again"):
        read_salt(tmp_path)


def test_processes_that_make_a_salt_at_once_get_the_same(tmp_path, monkeypatch):
    first = make_salt(tmp_path)
    # The second process looked for a salt before the first had written it.
    assert make_salt(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == ["id_salt.txt"]
    assert (tmp_path / "id_salt.txt").stat().st_mode & 0o077 == 0

    def unsupported(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr("os.link", unsupported)
    other = make_salt(tmp_path / "other")
    assert read_salt(tmp_path / "other") == other
