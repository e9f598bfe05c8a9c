"""Hashes of identifiers against an independent HMAC."""

from mammo_d2.core.identifiers import hashed_identifier


def test_known_values():
    # RFC 4231, test case 2.
    assert hashed_identifier("what do ya want for nothing?", "Jefe") == "5bdcc146bf60754e"
    assert hashed_identifier("P1") == hashed_identifier("P1") != hashed_identifier("P1", "salt")
