"""The rows of a comparison of methods, from a YAML file."""

from dataclasses import dataclass, field

from mammo_d2.config.named_configs import find_config
from mammo_d2.core.files import read_yaml
from mammo_d2.experiments.cells import turns_of

_KEYS = {"config", "opts", "table"}


@dataclass(frozen=True)
class MethodRow:
    """One row.

    Attributes:
        name: in the tables.
        config: the config file.
        overrides: KEY VALUE overrides; "{weights:ROW}" in a value is the file of the weights that this row ends with,
            of the same seed and fold.
        in_table: False for a row that is trained only for others to start from.
    """

    name: str
    config: str
    overrides: list[str] = field(default_factory=list)
    in_table: bool = True

    @property
    def folder(self) -> str:
        """Its folder: letters and digits of the name."""
        return "".join(c if c.isalnum() else "_" for c in self.name.lower()).strip("_")


def load_method_rows(path: str) -> list[MethodRow]:
    """Read rows from YAML: a mapping of row name → {config: FILE, opts: [KEY, VALUE, ...], table: true or false}.

    Args:
        path: a file, or a ``mammo_d2://`` name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not such a mapping, two names give the same folder, or a row starts from one that is
            not there, or from itself.
    """
    content = read_yaml(find_config(path))
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected a mapping of row name to config and opts, got {content!r:.80}")
    rows = [_row(path, str(name), entry) for name, entry in content.items()]
    folders: dict[str, str] = {}
    for row in rows:
        other = folders.setdefault(row.folder, row.name)
        if other != row.name or not row.folder:
            raise ValueError(
                f"{path}: rows {other!r} and {row.name!r} would share the folder {row.folder!r}; let their names "
                "differ in letters or digits"
            )
    turns_of({row.name: row.overrides for row in rows})
    return rows


def _row(path: str, name: str, entry: object) -> MethodRow:
    if not isinstance(entry, dict) or set(entry) - _KEYS or not isinstance(entry.get("config"), str):
        raise ValueError(
            f'{path}: row {name!r} needs {{"config": FILE}}, may have opts and table, and has {entry!r:.80}'
        )
    overrides = entry.get("opts", [])
    if not isinstance(overrides, list) or len(overrides) % 2:
        raise ValueError(f"{path}: opts of row {name!r} must be a list of KEY, VALUE pairs, not {overrides!r:.80}")
    if not isinstance(entry.get("table", True), bool):
        raise ValueError(f"{path}: table of row {name!r} must be true or false, not {entry['table']!r}")
    return MethodRow(name, entry["config"], [str(item) for item in overrides], entry.get("table", True))
