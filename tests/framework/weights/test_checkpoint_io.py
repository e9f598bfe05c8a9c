"""Saving and loading on the engine in use: whole files, safe reading, a full report, strictness, resuming."""

import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mammo_d2.framework import SafeCheckpointer
from mammo_d2.framework.weights.checkpoint_io import WeightsMismatchError
from mammo_d2.framework.weights.weight_files import UnsafePickleError, read_weight_file


def model(**sizes: int) -> nn.Module:
    """Two layers; `sizes` are their outputs."""
    return nn.ModuleDict({name: nn.Linear(2, size) for name, size in (sizes or {"a": 3, "b": 2}).items()})


class Counter:
    """Something with a state."""

    def __init__(self, value: Any):
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# --- writing --------------------------------------------------------------------------------------------------------
def test_round_trip_with_states_and_extra_values(tmp_path: Path) -> None:
    source, target = model(), model()
    SafeCheckpointer(source, str(tmp_path), trainer=Counter(5)).save("m", iteration=7, note=["x", None])
    counter = Counter(0)
    checkpointer = SafeCheckpointer(target, str(tmp_path), trainer=counter)
    extra = checkpointer.resume_or_load("", resume=True)
    assert same(source, target)
    assert counter.value == 5
    assert extra == {"iteration": 7, "note": ["x", None]}
    assert checkpointer.load_report.is_exact
    assert len(checkpointer.load_report.loaded) == 4


@pytest.mark.parametrize("moment", ["while writing the checkpoint", "before naming it the last"])
def test_killed_while_saving_keeps_the_former_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    source = model()
    checkpointer = SafeCheckpointer(source, str(tmp_path))
    checkpointer.save("model_0000001", iteration=1)
    former = {name: parameter.clone() for name, parameter in source.state_dict().items()}
    nn.init.zeros_(source["a"].weight)

    def half_a_file(data: Any, file: Any) -> None:
        file.write(b"PK half")
        raise KeyboardInterrupt

    def killed(path: str) -> None:
        raise KeyboardInterrupt

    if moment == "while writing the checkpoint":
        monkeypatch.setattr(torch, "save", half_a_file)
    else:
        monkeypatch.setattr(checkpointer, "tag_last_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_0000002", iteration=2)
    monkeypatch.undo()

    resumed = SafeCheckpointer(model(), str(tmp_path))
    assert resumed.resume_or_load("", resume=True) == {"iteration": 1}
    assert all(torch.equal(value, former[name]) for name, value in resumed.model.state_dict().items())
    whole = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert whole == ["model_0000001.pth"] + (["model_0000002.pth"] if moment == "before naming it the last" else [])


def test_same_name_again_replaces_the_file(tmp_path: Path) -> None:
    checkpointer = SafeCheckpointer(model(), str(tmp_path))
    checkpointer.save("m", iteration=1)
    checkpointer.save("m", iteration=2)
    assert checkpointer.resume_or_load("", resume=True) == {"iteration": 2}
    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "m.pth"]


def test_nothing_is_written_where_another_rank_does_it(tmp_path: Path) -> None:
    SafeCheckpointer(model(), str(tmp_path), save_to_disk=False).save("m")
    assert list(tmp_path.iterdir()) == []


def test_numpy_scalars_are_saved_as_numbers(tmp_path: Path) -> None:
    SafeCheckpointer(model(), str(tmp_path), hook=Counter({"best": np.float64(0.5)})).save("m", iteration=np.int64(3))
    content = torch.load(tmp_path / "m.pth", weights_only=True)
    assert content["iteration"] == 3
    assert type(content["iteration"]) is int
    assert type(content["hook"]["value"]["best"]) is float


def test_what_could_not_be_read_again_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="checkpoint/hook/value is a PosixPath"):
        SafeCheckpointer(model(), str(tmp_path), hook=Counter(Path("/"))).save("m")
    assert list(tmp_path.iterdir()) == []


# --- reading --------------------------------------------------------------------------------------------------------
def test_every_missing_unexpected_and_mis_shaped_key_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    SafeCheckpointer(model(a=3, b=2, old=1), str(tmp_path)).save("m")
    target = model(a=3, b=5, new=1)
    former = target["b"].weight.clone()
    checkpointer = SafeCheckpointer(target)
    checkpointer.load(str(tmp_path / "m.pth"))
    report = checkpointer.load_report
    assert report.loaded == ["a.bias", "a.weight"]
    assert sorted(report.missing) == ["new.bias", "new.weight"]
    assert sorted(report.unexpected) == ["old.bias", "old.weight"]
    assert sorted(report.mis_shaped) == [("b.bias", (2,), (5,)), ("b.weight", (2, 2), (5, 2))]
    assert torch.equal(target["b"].weight, former)
    text = caplog.text
    assert "2 loaded, 2 missing, 2 unexpected, 2 of another shape" in text
    assert "b.weight: (2, 2) in the file, (5, 2) in the model" in text


def test_strict_weights_refuse_anything_but_an_exact_fit(tmp_path: Path) -> None:
    SafeCheckpointer(model(a=3), str(tmp_path)).save("m")
    with pytest.raises(WeightsMismatchError, match="strict weights"):
        SafeCheckpointer(model(a=3, b=2), strict_weights=True).load(str(tmp_path / "m.pth"))
    SafeCheckpointer(model(a=3), strict_weights=True).load(str(tmp_path / "m.pth"))


def test_another_architecture_is_an_error_also_when_not_strict(tmp_path: Path) -> None:
    SafeCheckpointer(model(x=3), str(tmp_path)).save("m")
    checkpointer = SafeCheckpointer(model(a=3))
    with pytest.raises(WeightsMismatchError, match=r"another architecture: none of its 2 tensors"):
        checkpointer.load(str(tmp_path / "m.pth"))
    SafeCheckpointer(model(a=3), str(tmp_path)).save("n")
    checkpointer.load(str(tmp_path / "n.pth"))  # the failure left nothing behind


def test_resuming_with_another_configuration_is_an_error(tmp_path: Path) -> None:
    SafeCheckpointer(model(a=3, b=2), str(tmp_path)).save("m")
    with pytest.raises(WeightsMismatchError, match="cannot resume"):
        SafeCheckpointer(model(a=3, b=4), str(tmp_path)).resume_or_load("", resume=True)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist"):
        SafeCheckpointer(model()).load(str(tmp_path / "gone.pth"))
    (tmp_path / "last_checkpoint").write_text("gone.pth")
    with pytest.raises(FileNotFoundError, match=r"gone\.pth does not exist.*last_checkpoint"):
        SafeCheckpointer(model(), str(tmp_path)).resume_or_load("", resume=True)


def test_no_path_loads_nothing() -> None:
    assert SafeCheckpointer(model()).load("") == {}


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": w, "epoch": 3}, lambda w: {"model_state": w}])
def test_places_where_other_programs_keep_the_weights(tmp_path: Path, wrap: Any) -> None:
    source, target = model(), model()
    torch.save(wrap(dict(source.state_dict())), tmp_path / "w.pth")
    SafeCheckpointer(target, strict_weights=True).load(str(tmp_path / "w.pth"))
    assert same(source, target)


def test_weights_of_a_part_are_matched_by_their_endings(tmp_path: Path) -> None:
    source, target = model(), nn.ModuleDict({"backbone": model(), "head": nn.Linear(1, 1)})
    torch.save({f"module.{name}": value for name, value in source.state_dict().items()}, tmp_path / "w.pth")
    checkpointer = SafeCheckpointer(target)
    checkpointer.load(str(tmp_path / "w.pth"))
    assert same(source, target["backbone"])
    assert sorted(checkpointer.load_report.missing) == ["head.bias", "head.weight"]


def test_query_asks_for_matching_by_endings(tmp_path: Path) -> None:
    target = nn.ModuleDict({"backbone": model(a=3), "a": nn.Linear(1, 1)})
    torch.save({"a.weight": torch.ones(3, 2), "a.bias": torch.ones(1)}, tmp_path / "w.pth")
    SafeCheckpointer(target).load(f"{tmp_path}/w.pth?matching_heuristics=True")
    assert target["backbone"]["a"].weight.eq(1).all()
    with pytest.raises(ValueError, match="unknown query x"):
        SafeCheckpointer(target).load(f"{tmp_path}/w.pth?x=1")


# --- safe reading ---------------------------------------------------------------------------------------------------
class Dangerous:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (os.system, ("echo unpickled > unpickled.txt",))


@pytest.mark.parametrize("ending", ["pth", "pkl"])
def test_objects_are_refused_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"model": {"a.weight": np.ones(2)}, "__author__": "me", "extra": Dangerous()}
    if ending == "pth":
        content["model"] = {"a.weight": torch.ones(2)}
        torch.save(content, "w.pth")
    else:
        (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UnsafePickleError, match=r"contains (posix|nt)\.system.*MAMMO_D2_ALLOW_PICKLE=1"):
        read_weight_file(f"w.{ending}")
    assert not (tmp_path / "unpickled.txt").exists()
    monkeypatch.setenv("MAMMO_D2_ALLOW_PICKLE", "1")
    assert read_weight_file(f"w.{ending}")["__author__"] == "me"
    assert (tmp_path / "unpickled.txt").exists()


def test_a_tar_archive_of_old_torch_is_refused(tmp_path: Path) -> None:
    """Those of torch before 0.1.10; torch before 2.6 would run code from them (CVE-2025-32434)."""
    path = tmp_path / "old.pth"
    (tmp_path / "storages").write_bytes(pickle.dumps(0))
    with tarfile.open(path, "w") as archive:
        archive.add(tmp_path / "storages", "storages")
    with pytest.raises(UnsafePickleError, match="tar archive"):
        read_weight_file(str(path))


def test_numpy_values_in_a_torch_file_are_harmless(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1)}, "best": np.float64(0.5), "curve": np.arange(3)}, tmp_path / "w.pth")
    content = read_weight_file(str(tmp_path / "w.pth"))
    assert content["best"] == 0.5
    assert content["curve"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_zoo_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    content = {"model": {"a": array, "b": np.float32(3)}, "__author__": "me"}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_weight_file(str(tmp_path / "w.pkl"))
    assert np.array_equal(read["model"]["a"], array)
    assert read["model"]["b"] == 3


@pytest.mark.parametrize("name", ["w.pth", "w.pkl"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: damaged"):
        read_weight_file(str(tmp_path / name))


def test_a_file_of_another_kind_is_named_without_advice_to_read_it_unsafely(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_text("# mammo_d2\n\nsome text\n")
    with pytest.raises(
        ValueError, match=r"w\.pth: damaged or not a file of torch\.save \(.*\); copy or train"
    ) as caught:
        read_weight_file(str(tmp_path / "w.pth"))
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_downloaded_are_named_with_the_way_out(monkeypatch) -> None:
    checkpointer = SafeCheckpointer(model())

    def offline(path: str) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr(checkpointer.path_manager, "get_local_path", offline)
    address = "https://example.org/R-101.pkl"
    with pytest.raises(OSError, match=r"example\.org/R-101\.pkl cannot be downloaded \(Name or .*MODEL\.WEIGHTS"):
        checkpointer.load(address)


def test_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"model": model().state_dict()}, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"w\.pth: damaged"):
        SafeCheckpointer(model()).load(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2]])
def test_files_without_weights_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="weights"):
        read_weight_file(str(tmp_path / "w.pth"))
