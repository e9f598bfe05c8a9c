import pytest
import torch
from torch import nn

from mammo_d2.modeling.feature_cache import FeatureCache, ModuleFingerprint, content_key


class TestFeatureCache:
    def test_a_kept_tensor_is_not_made_again(self, tmp_path):
        cache = FeatureCache(tmp_path)
        value = torch.randn(3, 4)
        assert torch.equal(cache.get("abcd", lambda: value), value)
        again = FeatureCache(tmp_path).get("abcd", lambda: pytest.fail("made again"))
        assert torch.equal(again, value)

    def test_keys_are_apart(self, tmp_path):
        cache = FeatureCache(tmp_path)
        cache.get("ab1", lambda: torch.zeros(1))
        assert cache.get("ab2", lambda: torch.ones(1)).item() == 1.0

    @pytest.mark.parametrize(
        "damage",
        [
            lambda whole: b"",
            lambda whole: b"damaged",
            lambda whole: b"PK\x03\x04",
            lambda whole: whole[: len(whole) // 2],
            lambda whole: whole.replace(b"little", b"li\x01tle"),
        ],
    )
    def test_a_damaged_file_is_made_again(self, tmp_path, damage):
        cache = FeatureCache(tmp_path)
        cache.get("abcd", lambda: torch.zeros(2))
        (file,) = tmp_path.rglob("*.pt")
        whole = file.read_bytes()
        assert damage(whole) != whole
        file.write_bytes(damage(whole))
        assert cache.get("abcd", lambda: torch.ones(2)).tolist() == [1.0, 1.0]
        assert cache.get("abcd", lambda: pytest.fail("made again")).tolist() == [1.0, 1.0]

    def test_no_unfinished_files_stay(self, tmp_path):
        FeatureCache(tmp_path).get("abcd", lambda: torch.zeros(2))
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["abcd.pt"]

    def test_a_part_of_a_larger_tensor_is_kept_alone(self, tmp_path):
        FeatureCache(tmp_path).get("abcd", lambda: torch.zeros(1000, 1000)[0])
        (file,) = tmp_path.rglob("*.pt")
        assert file.stat().st_size < 10_000


class TestContentKey:
    def test_bytes_shape_and_type_count(self):
        zeros = torch.zeros(2, 2)
        keys = {
            content_key(["a"], [zeros]),
            content_key(["b"], [zeros]),
            content_key(["a"], [zeros.view(4)]),
            content_key(["a"], [zeros.int()]),
            content_key(["a"], [zeros + 1e-6]),
            content_key(["a", ""], [zeros]),
        }
        assert len(keys) == 6

    def test_memory_order_does_not_count(self):
        values = torch.arange(6.0).view(2, 3)
        assert content_key([], [values.T.contiguous().T]) == content_key([], [values])


class TestModuleFingerprint:
    def test_follows_the_weights(self):
        module = nn.Linear(2, 2)
        fingerprint = ModuleFingerprint([module])
        before = fingerprint()
        assert fingerprint() == before
        with torch.no_grad():
            module.weight[0, 0] += 1e-6
        assert fingerprint() != before

    def test_follows_loaded_weights_and_back(self):
        module = nn.Linear(2, 2)
        fingerprint, state = ModuleFingerprint([module]), {k: v.clone() for k, v in module.state_dict().items()}
        before = fingerprint()
        module.load_state_dict({k: v + 1 for k, v in state.items()})
        assert fingerprint() != before
        module.load_state_dict(state)
        assert fingerprint() == before

    def test_follows_settings_without_weights(self):
        assert ModuleFingerprint([nn.MaxPool2d(2)])() != ModuleFingerprint([nn.MaxPool2d(3)])()

    def test_follows_settings_that_are_not_described(self):
        class Scaled(nn.Module):
            def __init__(self, factors):
                super().__init__()
                self.factors = factors

        fingerprints = {ModuleFingerprint([nn.Sequential(Scaled(f))])() for f in (1.0, 2.0, [1.0, "a"], {"a": (1, 2)})}
        assert len(fingerprints) == 4
        assert ModuleFingerprint([nn.Sequential(Scaled(2.0))])() in fingerprints

    def test_does_not_follow_the_mode(self):
        """A frozen module may be described while the model trains or not."""
        module = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2))
        assert ModuleFingerprint([module.train()])() == ModuleFingerprint([module.eval()])()
