"""No file of weights, stored results or settings runs code, whichever way it is named.

Every file here makes a folder when its objects are built. That folder must not appear, and the error must name the
file.
"""

import io
import os
import pickle
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from mammo_d2.cli.results import predict
from mammo_d2.cli.training import convert_weights
from mammo_d2.config.loading import load_config
from mammo_d2.data.lesions.patch_store import PatchStore
from mammo_d2.data.lesions.stores import EmbeddingStore, SaliencyStore
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.framework import SafeCheckpointer, build_model
from mammo_d2.framework.weights.weight_files import ALLOW_PICKLE_ENV, UnsafePickleError
from mammo_d2.inference.lesion_malignancy import load_lesion_classifier
from mammo_d2.inference.predictor import Predictor
from mammo_d2.modeling.backbone import patch_networks
from mammo_d2.modeling.feature_cache import FeatureCache
from mammo_d2.report.localization import localization_pictures
from mammo_d2.report.shown_images import evaluation_data
from tests.conftest import ROOT
from tests.data.toy_dataset import write_dataset
from tests.engine import toy_training
from tests.inference.tiny_model import brightest_cfg, write_mammogram
from tests.jobs.lesion import lesion_jobs
from tests.modeling.gmic_models import gmic_cfg

# A lesion job without saliency, short.
EMBEDDING = ("MODEL.LESION.MAPS", "['embedding']", "SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "2")


class Malicious:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.marker,)


# --- the files ------------------------------------------------------------------------------------------------------
def content(marker: Path) -> dict:
    return {"model": {"a.weight": torch.ones(2)}, "__author__": "me", "iteration": 1, "extra": Malicious(marker)}


def write_zip(path: Path, marker: Path) -> None:
    torch.save(content(marker), path)


def write_legacy(path: Path, marker: Path) -> None:
    torch.save(content(marker), path, _use_new_zipfile_serialization=False)


def write_tar(path: Path, marker: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(Malicious(marker))
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_pickle(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps({**content(marker), "model": {"a.weight": np.ones(2)}}))


def write_array(path: Path, marker: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.array([Malicious(marker)], object), allow_pickle=True)


def write_arrays(path: Path, marker: Path) -> None:
    """Under every name that a reader asks for."""
    names = ("embedding", "window", "patch_class", "source", "a")
    with open(path, "wb") as file:
        np.savez(file, **{name: np.array([Malicious(marker)], object) for name in names})


WEIGHT_FILES = {"zip.pth": write_zip, "legacy.pth": write_legacy, "tar.pth": write_tar, "pickle.pkl": write_pickle}
MISNAMED = {"zip.pkl": write_zip, "legacy.pkl": write_legacy, "tar.pkl": write_tar, "pickle.pth": write_pickle}
STORED_FILES = {**WEIGHT_FILES, "array.npy": write_array, "arrays.npz": write_arrays}


def load_unsafely(path: Path) -> None:
    if path.suffix in (".npy", ".npz"):
        stored = np.load(path, allow_pickle=True)
        assert stored is not None
        _ = isinstance(stored, np.ndarray) or stored["a"]
    elif path.suffix == ".pkl":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)


@pytest.mark.parametrize("name", STORED_FILES)
def test_the_files_are_malicious(name, tmp_path):
    STORED_FILES[name](tmp_path / name, tmp_path / "marker")
    try:
        load_unsafely(tmp_path / name)
    except TypeError:  # the tar archive holds nothing else
        assert name == "tar.pth"
    assert (tmp_path / "marker").is_dir()


# --- places that weights are read in ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """A data set and a lesion job with its trained run, which no test changes."""
    root = tmp_path_factory.mktemp("scenes")
    write_dataset(root, positives=3, negatives=4)
    lesion_jobs.write_job(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(patch_networks.PATCH_NETWORKS, "tiny", lesion_jobs.tiny_network)
        lesion_jobs.run(root, *EMBEDDING, out="trained")
    return root


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    monkeypatch.delenv(ALLOW_PICKLE_ENV, raising=False)
    monkeypatch.setitem(patch_networks.PATCH_NETWORKS, "tiny", lesion_jobs.tiny_network)


@pytest.fixture(autouse=True)
def no_tar_archive_reaches_torch(request, monkeypatch):
    """torch before 2.6 runs code from those even when it is asked for weights only (CVE-2025-32434)."""
    load, archives = torch.load, []

    def watched(file, *arguments, weights_only, **options):
        if weights_only and tarfile.is_tarfile(file):
            archives.append(file)
        return load(file, *arguments, weights_only=weights_only, **options)

    monkeypatch.setattr(torch, "load", watched)
    yield
    assert archives == []


def toy(scenes: Path, out: Path, *overrides: str, **flags: bool) -> None:
    toy_training.run(scenes, "OUTPUT_DIR", str(out), *overrides, **flags)


def as_checkpoint(file: Path, out: Path) -> Path:
    """Make a file the last checkpoint of a folder."""
    out.mkdir(parents=True)
    file.rename(out / file.name)
    (out / "last_checkpoint").write_text(file.name)
    return out


def train(file: Path, out: Path, scenes: Path) -> None:
    toy(scenes, out, "MODEL.WEIGHTS", str(file))


def train_by_endings(file: Path, out: Path, scenes: Path) -> None:
    toy(scenes, out, "MODEL.WEIGHTS", f"{file}?matching_heuristics=True")


def evaluate(file: Path, out: Path, scenes: Path) -> None:
    toy(scenes, out, "MODEL.WEIGHTS", str(file), eval_only=True)


def resume(file: Path, out: Path, scenes: Path) -> None:
    toy(scenes, as_checkpoint(file, out), resume=True)


def evaluate_checkpoint(file: Path, out: Path, scenes: Path) -> None:
    toy(scenes, as_checkpoint(file, out), resume=True, eval_only=True)


def resume_from_elsewhere(file: Path, out: Path, scenes: Path) -> None:
    out.mkdir()
    (out / "last_checkpoint").write_text(str(file))
    toy(scenes, out, resume=True)


def predict_command(file: Path, out: Path, scenes: Path) -> None:
    out.mkdir()
    (out / "config.yaml").write_text(brightest_cfg(out, "INPUT.SIZE", "[160, 160]").dump())
    write_mammogram(out / "in" / "a.png")
    options = {"--config-file": out / "config.yaml", "--weights": file, "--input": out / "in", "--output": out / "of"}
    predict.run([str(word) for pair in options.items() for word in pair])


def predict_with_ensemble(file: Path, out: Path, scenes: Path) -> None:
    cfg = gmic_cfg("MODEL.META_ARCHITECTURE", "GMICEnsemble", "MODEL.GMIC.ENSEMBLE", [0.1, 0.5])
    cfg.MODEL.WEIGHTS, cfg.INPUT.PREPARATION = str(file), "none"
    Predictor(cfg)


def convert(file: Path, out: Path, scenes: Path) -> None:
    out.mkdir()
    (out / "config.yaml").write_text(gmic_cfg().dump())
    options = ["--config-file", str(out / "config.yaml"), "--output", str(out / "out.pth")]
    convert_weights.run(["gmic", str(file), *options])


def convert_second_member(file: Path, out: Path, scenes: Path) -> None:
    out.mkdir()
    (out / "config.yaml").write_text(gmic_cfg().dump())
    torch.save({"model": build_model(gmic_cfg()).state_dict()}, out / "first.pth")
    options = ["--config-file", str(out / "config.yaml"), "--output", str(out / "out.pth")]
    convert_weights.run(["gmic", str(out / "first.pth"), str(file), *options])


def gmic_patch_weights(file: Path, out: Path, scenes: Path) -> None:
    build_model(gmic_cfg("MODEL.GMIC.PATCH_WEIGHTS", str(file)))


def lesion_context_weights(file: Path, out: Path, scenes: Path) -> None:
    lesion_jobs.run(scenes, "MODEL.LESION.CONTEXT_WEIGHTS", str(file), out=str(out))


def lesion_network_weights(file: Path, out: Path, scenes: Path) -> None:
    lesion_jobs.run(scenes, *EMBEDDING, "MODEL.LESION.NETWORK_WEIGHTS", str(file), out=str(out))


def lesion_patch_weights(file: Path, out: Path, scenes: Path) -> None:
    lesion_jobs.run(scenes, *EMBEDDING, "MODEL.LESION.PATCH_WEIGHTS", str(file), out=str(out))


def lesion_resume(file: Path, out: Path, scenes: Path) -> None:
    shutil.copytree(scenes / "trained", out)
    file.rename(out / "patch" / file.name)
    (out / "patch" / "last_checkpoint").write_text(file.name)
    (out / "patch" / "model_final.pth").unlink()
    lesion_jobs.run(scenes, *EMBEDDING, out=str(out), resume=True)


def lesion_trained_patch_network(file: Path, out: Path, scenes: Path) -> None:
    shutil.copytree(scenes / "trained", out)
    file.rename(out / "patch" / "model_best.pth")
    shutil.rmtree(out / "context_embedding")
    lesion_jobs.run(scenes, *EMBEDDING, out=str(out), resume=True)


def lesion_evaluate(file: Path, out: Path, scenes: Path) -> None:
    shutil.copytree(scenes / "trained", out)
    file.rename(out / "context_embedding" / "model_best.pth")
    lesion_jobs.run(scenes, *EMBEDDING, out=str(out), eval_only=True)


def classify_lesions(file: Path, out: Path, scenes: Path) -> None:
    shutil.copytree(scenes / "trained", out)
    file.rename(out / "context_embedding" / "model_best.pth")
    opts = [*lesion_jobs.places(scenes), *EMBEDDING, "OUTPUT_DIR", str(out)]
    load_lesion_classifier(load_config(str(scenes / "job.yaml"), opts))


WAYS = [
    train, train_by_endings, evaluate, resume, evaluate_checkpoint, resume_from_elsewhere, predict_command,
    predict_with_ensemble, convert, convert_second_member, gmic_patch_weights, lesion_context_weights,
    lesion_network_weights, lesion_patch_weights, lesion_resume, lesion_trained_patch_network,
    lesion_evaluate, classify_lesions,
]  # fmt: skip
RENAMED = (lesion_trained_patch_network, lesion_evaluate, classify_lesions)  # to model_best.pth
TORCH_ALONE = (*RENAMED, gmic_patch_weights, lesion_network_weights)  # a pickle of another program is a damaged file


@pytest.mark.parametrize("name", WEIGHT_FILES)
@pytest.mark.parametrize("way", WAYS)
def test_weights_run_no_code(way, name, scenes, tmp_path):
    WEIGHT_FILES[name](tmp_path / name, tmp_path / "marker")
    reported = "model_best.pth" if way in RENAMED else name
    error, message = UnsafePickleError, r": refused to read it, because it contains (posix|nt)\.mkdir"
    if name == "tar.pth":
        message = ": refused to read it, because it is a tar archive"
    elif name == "pickle.pkl" and way in TORCH_ALONE:
        error, message = ValueError, "(:| cannot be read as a file of weights:) damaged or not a file of torch.save"
    with pytest.raises(error, match=rf"{re.escape(reported)}(\?\S*)?{message}"):
        way(tmp_path / name, tmp_path / "out", scenes)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", MISNAMED)
def test_misnamed_weights_run_no_code(name, tmp_path):
    MISNAMED[name](tmp_path / name, tmp_path / "marker")
    with pytest.raises(ValueError, match=f"{name}: (refused to read|damaged or not a |holds a int)"):
        SafeCheckpointer(torch.nn.Linear(1, 1)).load(str(tmp_path / name))
    assert not (tmp_path / "marker").exists()


# --- results that are stored and read again --------------------------------------------------------------------------
class Stores:
    """Reads each kind of stored file from where the package put it, after ``put`` has replaced it."""

    def __init__(self, folder: Path, put: Callable[[Path], None]):
        self.folder, self.put = folder, put
        assert cv2.imwrite(str(folder / "a.png"), np.arange(24, dtype=np.uint16).reshape(4, 6))
        annotations = [{"bbox": [1, 1, 2, 2], "bbox_mode": 1, "category_id": 0}]
        self.record = {"file_name": str(folder / "a.png"), "image_id": "a", "height": 4, "width": 6}
        self.record["annotations"] = annotations
        self.images = PatchStore(folder / "patches")

    def patches(self) -> None:
        self.put(self.images.path(self.record))
        self.images.open(self.record)

    def saliency(self) -> None:
        store = SaliencyStore(self.folder, "network", self.images)
        store.put(self.record, np.zeros((2, 2, 2)))
        self.put(store.path(self.record))
        store.get(self.record)

    def embeddings(self) -> None:
        store = EmbeddingStore(self.folder / "embeddings", 3)
        store.put(range(3), {"embedding": np.zeros((3, 2))})
        (path,) = store.folder.iterdir()
        self.put(path)
        store.load()

    def response_maps(self) -> None:
        self.put(self.folder / "maps.npz")
        data = evaluation_data([self.record], ["malignant"], [], {1: 0})
        pictures, problems = localization_pictures([self.record], data, HitRule("iom", 0.5), self.folder / "maps.npz")
        assert pictures == []
        raise ValueError(*problems)


@pytest.mark.parametrize("name", STORED_FILES)
@pytest.mark.parametrize("kind", ["patches", "saliency", "embeddings", "response_maps"])
def test_stored_arrays_run_no_code(kind, name, tmp_path):
    stores = Stores(tmp_path, lambda path: STORED_FILES[name](path, tmp_path / "marker"))
    with pytest.raises(ValueError, match=r"\.np[yz]: damaged or not a .* file of arrays .*again") as caught:
        getattr(stores, kind)()
    assert "allow_pickle" not in str(caught.value)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", STORED_FILES)
def test_stored_codes_run_no_code_and_are_made_again(name, tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    cache.get("abcd", lambda: torch.zeros(2))
    (path,) = cache.folder.rglob("*.pt")
    STORED_FILES[name](path, tmp_path / "marker")
    assert cache.get("abcd", lambda: torch.ones(2)).tolist() == [1.0, 1.0]
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_the_journal_of_a_search_runs_no_code(name, tmp_path):
    search_loop = pytest.importorskip("mammo_d2.experiments.search.search_loop", exc_type=ImportError)
    from tests.experiments.search.test_search_loop import make_plan

    plan = make_plan(tmp_path / "out")
    search_loop.open_study(plan)
    journal = plan.output / "study.log"
    WEIGHT_FILES[name](journal, tmp_path / "marker")
    journal.write_bytes(journal.read_bytes() + b"\n")
    with pytest.raises(ValueError, match=r"study\.log, line 1: damaged"):
        search_loop.open_study(plan)
    assert not (tmp_path / "marker").exists()


# --- settings ---------------------------------------------------------------------------------------------------------
def context_config(path: Path, out: Path, scenes: Path) -> None:
    lesion_jobs.run(scenes, "MODEL.LESION.CONTEXT_CONFIG", str(path), out=str(out))


def config_beside_weights(path: Path, out: Path, scenes: Path) -> None:
    (path.parent / "context.pth").write_bytes((scenes / "context.pth").read_bytes())
    lesion_jobs.run(scenes, "MODEL.LESION.CONTEXT_WEIGHTS", str(path.parent / "context.pth"), out=str(out))


def config_of_evaluated_run(path: Path, out: Path, scenes: Path) -> None:
    toy_training.run(scenes, "OUTPUT_DIR", str(path.parent), "SEED", "-1", resume=True)


def config_file(path: Path, out: Path, scenes: Path) -> None:
    load_config(str(path))


@pytest.mark.parametrize("way", [config_file, context_config, config_beside_weights, config_of_evaluated_run])
def test_configs_run_no_code(way, scenes, tmp_path):
    path, marker = tmp_path / "config.yaml", tmp_path / "marker"
    path.write_text(f"VERSION: 2\nSEED: !!python/object/apply:os.mkdir [{marker}]\n")
    with pytest.raises(ValueError, match=r"config\.yaml"):
        way(path, tmp_path / "out", scenes)
    assert not marker.exists()
    yaml.unsafe_load(path.read_text())
    assert marker.is_dir()


def test_every_file_is_read_by_the_safe_readers():
    """``mapped_images`` unpickles what it has pickled in memory."""
    unsafe = re.compile(r"\b(torch\.load|np\.load|pickle\.loads?|yaml\.(?:unsafe_|full_)?load)\(|allow_unsafe=True")
    found = {
        (str(path.relative_to(ROOT / "mammo_d2")), match[1])
        for path in sorted((ROOT / "mammo_d2").rglob("*.py"))
        for match in unsafe.finditer(path.read_text(encoding="utf-8"))
    }
    assert found == {
        ("core/array_files.py", "np.load"),
        ("core/files.py", "yaml.load"),  # with a subclass of the safe loader
        ("data/loading/mapped_images.py", "pickle.loads"),
        ("framework/weights/weight_files.py", "pickle.load"),
        ("framework/weights/weight_files.py", "torch.load"),
    }
