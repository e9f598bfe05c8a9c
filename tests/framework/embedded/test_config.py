"""Configs: inheritance between files, types, versions, safety, and building objects from them."""

from pathlib import Path

import pytest
import yaml

from mammo_d2.framework.embedded.config import CfgNode, configurable, get_cfg


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_file_inherits_from_its_bases_and_wins(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "SOLVER: {BASE_LR: 0.5, GAMMA: 0.25}\nSEED: 3\n")
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "b.yaml", "_BASE_: ../a.yaml\nSOLVER: {GAMMA: 0.125}\n")
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path / "c.yaml", "_BASE_: [a.yaml, sub/b.yaml]\nSOLVER: {STEPS: [7, 9]}\n"))
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA, cfg.SOLVER.STEPS, cfg.SEED) == (0.5, 0.125, (7, 9), 3)


def test_written_config_loads_to_the_same(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("a", "b")
    cfg.SOLVER.WEIGHT_DECAY_BIAS = 0.5
    again = get_cfg()
    again.merge_from_file(write(tmp_path / "config.yaml", cfg.dump()))
    # Compared as text: tuples in tuples come back as lists in tuples.
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())
    assert (again.DATASETS.TRAIN, again.SOLVER.WEIGHT_DECAY_BIAS) == (("a", "b"), 0.5)


def test_defaults_are_not_shared_between_configs() -> None:
    first = get_cfg()
    first.MODEL.RPN.IN_FEATURES.append("p2")
    first.MODEL.ANCHOR_GENERATOR.SIZES[0][0] = 1
    assert get_cfg().MODEL.RPN.IN_FEATURES == ["res4"]
    assert get_cfg().MODEL.ANCHOR_GENERATOR.SIZES[0][0] == 32


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("SOLVER: {BASE_LRR: 0.1}", KeyError, r"SOLVER\.BASE_LRR"),
        ("SOLVER: {BASE_LR: 1}", ValueError, r"SOLVER\.BASE_LR"),
        ("VERSION: 1\nMODEL: {WEIGHT: x}", ValueError, r"c\.yaml: VERSION is 1"),
        ("# nothing yet", ValueError, r"c\.yaml: .* does not hold configuration keys"),
        ("- SEED", ValueError, r"c\.yaml: .* does not hold configuration keys"),
        ("SEED: !!python/object/apply:os.getpid []", yaml.constructor.ConstructorError, "could not determine"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        get_cfg().merge_from_file(write(tmp_path / "c.yaml", text))


def test_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        get_cfg().merge_from_file("nowhere.yaml")


class Layer:
    @configurable
    def __init__(self, width: int, *, depth: int = 1, name: str = "") -> None:
        self.values = (width, depth, name)

    @classmethod
    def from_config(cls, cfg, width):
        return {"width": width, "depth": cfg.DEPTH, "name": cls.__name__}


class DeeperLayer(Layer):
    @classmethod
    def from_config(cls, cfg, width):
        return {**super().from_config(cfg, width), "depth": cfg.DEPTH + 10}


class TestConfigurable:
    cfg = CfgNode({"DEPTH": 5})

    def test_plain_call(self) -> None:
        assert Layer(3).values == (3, 1, "")

    def test_call_with_a_config(self) -> None:
        assert Layer(self.cfg, 3).values == (3, 5, "Layer")
        assert Layer(cfg=self.cfg, width=3).values == (3, 5, "Layer")

    def test_what_from_config_does_not_take_overrides_its_result(self) -> None:
        assert Layer(self.cfg, width=3, depth=7).values == (3, 7, "Layer")

    def test_the_subclass_translates(self) -> None:
        assert DeeperLayer(self.cfg, 3).values == (3, 15, "DeeperLayer")

    def test_from_config_that_takes_anything_gets_everything(self) -> None:
        class Anything:
            @configurable
            def __init__(self, depth: int, rest: dict) -> None:
                self.values = (depth, rest)

            @classmethod
            def from_config(cls, cfg, **kwargs):
                return {"depth": cfg.DEPTH, "rest": kwargs}

        assert Anything(self.cfg, name="y").values == (5, {"name": "y"})

    def test_wrong_uses(self) -> None:
        class Without:
            @configurable
            def __init__(self) -> None: ...

        with pytest.raises(TypeError, match="from_config"):
            Without(self.cfg)
        with pytest.raises(TypeError, match="__init__"):

            @configurable
            def function() -> None: ...

        class WithoutCfg(Without):
            @classmethod
            def from_config(cls, config): ...

        with pytest.raises(TypeError, match="'cfg' as its first"):
            WithoutCfg(self.cfg)


@pytest.mark.detectron2
class TestWithDetectron2:
    """Configs of one engine are configs of the other."""

    def test_model_zoo_configs_mean_the_same(self) -> None:
        import detectron2
        from detectron2.config import get_cfg as real_get_cfg

        folder = Path(detectron2.__file__).parent / "model_zoo" / "configs"
        files = [*folder.glob("COCO-Detection/faster_rcnn_*.yaml"), *folder.glob("PascalVOC-Detection/*.yaml")]
        if not files:
            pytest.skip("this detectron2 was installed without its model zoo")
        for file in files:
            real, ours = real_get_cfg(), get_cfg()
            real.merge_from_file(str(file))
            ours.merge_from_file(str(file))
            assert ours == real, file

    def test_complete_config_loads_either_way(self, tmp_path: Path) -> None:
        from detectron2.config import get_cfg as real_get_cfg

        real, ours = real_get_cfg(), get_cfg()
        ours.merge_from_file(write(tmp_path / "real.yaml", real.dump()))
        real.merge_from_file(write(tmp_path / "ours.yaml", ours.dump()))
        assert ours == real
