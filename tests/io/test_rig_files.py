"""Rigs as folders."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from random_rigs import random_rig

from softras import InputError
from softras.io.rigs import load_rig, save_rig


def plain(value):
    """Dataclasses and arrays as what can be compared."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tolist()
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


@pytest.mark.parametrize("armature", [True, False])
def test_a_rig_comes_back_exactly(tmp_path, armature):
    rig = random_rig(0) if armature else dataclasses.replace(random_rig(0), armature=None, shape_keys=())
    save_rig(tmp_path / "rig", random_rig(1))  # what lay there before
    save_rig(tmp_path / "rig", rig)
    assert plain(load_rig(tmp_path / "rig")) == plain(rig)


def test_damaged_rigs_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"has no rig\.json"):
        load_rig(tmp_path)
    save_rig(tmp_path, random_rig(0))
    document = json.loads((tmp_path / "rig.json").read_text())

    def refuse(sentence):
        with pytest.raises(InputError, match=sentence) as error:
            load_rig(tmp_path)
        assert str(error.value).endswith(".") and "\n" not in str(error.value)

    for change, sentence in [
        ({"transform": 3}, "damaged"),
        ({"transform": {"speed": 3}}, "damaged"),
        ({"parent": [1, 2]}, "matrix of the parent"),
        ({"armature": {"bones": []}}, "lacks 'follows'|no bones"),
        ({"armature": {**document["armature"], "bones": [{"name": "Hip"}]}}, "lacks 'pose'"),
        ({"shape_keys": [{"name": "Wide", "colour": 3}]}, "damaged"),
    ]:
        (tmp_path / "rig.json").write_text(json.dumps({**document, **change}))
        refuse(sentence)
    del document["follows"]
    (tmp_path / "rig.json").write_text(json.dumps(document))
    refuse("lacks 'follows'")
    save_rig(tmp_path, random_rig(0))
    np.save(tmp_path / "skin_bones.npy", np.array([{}], dtype=object), allow_pickle=True)
    refuse("damaged or not a .npy file")
    np.save(tmp_path / "skin_bones.npy", np.zeros((3, 3), int))
    refuse("array of any, not 3 x 3")
    (tmp_path / "key_0001.npy").unlink()
    refuse("key_0001.npy: no such file")


def test_numbers_of_numpy_are_written_too(tmp_path):
    given = random_rig(0)
    bones = [
        dataclasses.replace(bone, parent=np.int64(bone.parent), inherit_rotation=np.bool_(bone.inherit_rotation))
        for bone in given.armature.bones
    ]
    keys = [dataclasses.replace(key, value=np.float32(0.25), free=np.bool_(True)) for key in given.shape_keys]
    armature = dataclasses.replace(given.armature, bones=bones)
    save_rig(tmp_path, dataclasses.replace(given, armature=armature, shape_keys=keys))
    found = load_rig(tmp_path)
    assert [bone.parent for bone in found.armature.bones] == [bone.parent for bone in given.armature.bones]
    assert [key.value for key in found.shape_keys] == [0.25] * 3
