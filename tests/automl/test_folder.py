"""MODEL on disk: damage is said, an older model stays until the new one is there."""

import json
import shutil

import pytest

from nasfast.automl import folder as folder_module
from nasfast.automl.folder import load_model, save_model
from nasfast.automl.names import MODEL_FILE
from nasfast.errors import RunError
from tests.helpers.sealed import write_sealed


@pytest.fixture
def copy(binary_fit, tmp_path):
    shutil.copytree(binary_fit.folder, tmp_path / "model")
    return tmp_path / "model"


def _weights(folder):
    (path,) = folder.glob("weights-*.safetensors")
    return path


def test_another_model_takes_its_place_and_leaves_nothing(copy, mixed_fit):
    before = _weights(copy)
    save_model(mixed_fit.model, copy)
    assert not before.exists()
    assert load_model(copy).target.name == "bought"
    assert sorted(p.name for p in copy.iterdir()) == sorted([MODEL_FILE, _weights(copy).name])


@pytest.mark.parametrize("written", [0, 1])
def test_a_write_that_fails_leaves_the_model_before(copy, mixed_fit, monkeypatch, written):
    real, calls = folder_module.atomic_write, []

    def fails(path, content):
        if len(calls) == written:
            raise RunError(f"cannot write {path}: No space left on device")
        calls.append(path)
        real(path, content)

    monkeypatch.setattr(folder_module, "atomic_write", fails)
    with pytest.raises(RunError, match="No space left"):
        save_model(mixed_fit.model, copy)
    assert load_model(copy).target.name == "target"


def test_every_flipped_byte_is_seen(copy, binary_fit):
    for path in (_weights(copy), copy / MODEL_FILE):
        whole = path.read_bytes()
        for place in range(0, len(whole), max(len(whole) // 40, 1)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
            try:
                same = load_model(copy)
            except RunError:
                continue
            assert path.name == MODEL_FILE, f"byte {place} of {path.name} changed and nothing was said"
            assert json.loads(path.read_text()) == json.loads(whole), place  # white space of the file
            assert same.about == binary_fit.model.about
        path.write_bytes(whole)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_cut_file_is_seen(copy, part):
    for path in (_weights(copy), copy / MODEL_FILE):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(RunError):
            load_model(copy)
        path.write_bytes(whole)


def test_what_is_no_model_or_of_another_version_says_so(copy, tmp_path):
    with pytest.raises(RunError, match="holds no model of `nasfast fit`"):
        load_model(tmp_path)
    described = json.loads((copy / MODEL_FILE).read_text())
    write_sealed(copy / MODEL_FILE, described | {"format": 99})
    with pytest.raises(RunError, match=r"has format 99, this nasfast .* reads 1"):
        load_model(copy)


def test_arrays_that_do_not_fit_their_member_are_refused(copy):
    described = json.loads((copy / MODEL_FILE).read_text())
    for member in described["members"]:
        wrong = json.loads(json.dumps(described))
        place = described["members"].index(member)
        wrong["members"][place]["kind"] = "forest"
        write_sealed(copy / MODEL_FILE, wrong)
        with pytest.raises(RunError, match="kind 'forest' is not known"):
            load_model(copy)
    wrong = json.loads(json.dumps(described))
    wrong["target"] |= {"classes": ["a", "b", "c"], "task": "multiclass"}
    write_sealed(copy / MODEL_FILE, wrong)
    with pytest.raises(RunError, match="member"):
        load_model(copy)
