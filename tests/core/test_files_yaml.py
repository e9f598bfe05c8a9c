"""YAML files: what is read, and what ends in an error that names the file."""

import pytest

from mammo_d2.core.files import FileFormatError, read_yaml


def test_plain_content(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text("\ufeffa: {float: [1, 2], log: true}\nb: [x, ä]\n", encoding="utf-8")
    assert read_yaml(path) == {"a": {"float": [1, 2], "log": True}, "b": ["x", "ä"]}
    path.write_text("")
    assert read_yaml(path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is there twice; remove one of them"),
        (b"x: {a: 1, a: 1}\n", "line 1: the key 'a' is there twice"),
        (b"a: [1\n", "not plain YAML: while parsing"),
        (b"a: !!python/name:os.system\n", "not plain YAML: could not determine a constructor"),
        (b"a: 2001-99-99\n", "not plain YAML: month must be in"),
        (b"? [a]\n: 1\n", "not plain YAML: .*unhashable key"),
        ("a: größe".encode("latin-1"), "not UTF-8 text"),
        ("a: 1".encode("utf-16"), "is UTF-16 text"),
        (b"[" * 5000, "nested too deeply"),
    ],
)
def test_errors_name_the_file(tmp_path, content, message):
    (tmp_path / "t.yaml").write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"t\.yaml: .*{message}"):
        read_yaml(tmp_path / "t.yaml")
