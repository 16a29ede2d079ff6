"""Rigs to measure and test with: the fox of the Khronos samples and the MakeHuman base mesh, read from their files."""

from __future__ import annotations

import gzip
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from softras import Mesh
from softras.rig import Armature, Bone, Rig, ShapeKey, Transform

ALL = (True, True, True)
_FOX_ROOT = "b_Hip_01"  # the one bone that the fox's animations move along; those above it stay
_NUMBERS = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_HUMAN_TARGETS = (
    "caucasian-female-young",
    "caucasian-male-child",
    "caucasian-male-young",
    "universal-male-young-maxmuscle-averageweight",
)


def fox(data: Path) -> Rig:
    """The fox at rest, in the axes and units of its file (y up), as `data`/fox_walk/cameras.json sees it.

    Bones turn freely from the hip down, and the hip moves: 69 parameters.
    """
    nodes, arrays, document = _read_glb(data / "fox_walk" / "Fox.glb")
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    vertices = arrays[attributes["POSITION"]]
    joints = document["skins"][0]["joints"]
    inverse = arrays[document["skins"][0]["inverseBindMatrices"]].reshape(-1, 4, 4).transpose(0, 2, 1)
    above = {child: number for number, node in enumerate(nodes) for child in node.get("children", ())}
    bones: list[Bone] = []
    for joint, matrix in zip(joints, inverse.astype(np.float64), strict=True):
        parent = joints.index(above[joint]) if above.get(joint) in joints else -1
        name = nodes[joint]["name"]
        moves = name == _FOX_ROOT or (parent >= 0 and any(bones[parent].pose.free_rotation))
        pose = Transform(free_rotation=(moves,) * 3, free_location=(name == _FOX_ROOT,) * 3)
        bones.append(Bone(name, parent, np.linalg.inv(matrix), pose))
    count = len(vertices)
    skin = (
        np.repeat(np.arange(count), 4),
        arrays[attributes["JOINTS_0"]].ravel().astype(int),
        arrays[attributes["WEIGHTS_0"]].ravel(),
    )
    faces = np.arange(count).reshape(-1, 3)  # the file has no indices: three vertices a face
    return Rig(Mesh(vertices, faces), armature=Armature(tuple(bones), *skin))


def fox_pose(data: Path, frame: int) -> Rig:
    """The fox in a frame (0..7) of its walk."""
    joints = json.loads((data / "fox_walk" / "poses.json").read_bytes())["frames"][frame]["joints"]
    rig = fox(data)
    assert rig.armature is not None
    bones: list[Bone] = []
    for bone in rig.armature.bones:
        x, y, z, w = joints[bone.name]["rotation_xyzw"]
        node = Transform(joints[bone.name]["translation"], (w, x, y, z), joints[bone.name]["scale"]).matrix()
        offset = bone.rest if bone.parent < 0 else np.linalg.inv(bones[bone.parent].rest) @ bone.rest
        channel = np.linalg.inv(offset) @ node
        scale = np.linalg.norm(channel[:3, :3], axis=0)
        rotation = _quaternion(channel[:3, :3] / scale)
        bones.append(replace(bone, pose=replace(bone.pose, location=channel[:3, 3], rotation=rotation, scale=scale)))
    return replace(rig, armature=replace(rig.armature, bones=tuple(bones)))


def human(data: Path) -> Rig:
    """The visible skin of the MakeHuman base mesh in metres, z up, with 53 bones and four targets as shape keys.

    All bones turn freely but the root, which stays; the pelvis moves.
    """
    folder = data / "mpfb_human"
    points, polygons, used = human_mesh(data)
    corners = np.array(polygons)
    faces = np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    faces = faces[faces[:, 0] != faces[:, 2]]
    index = np.full(len(points), -1)
    index[used] = np.arange(len(used))
    bones: list[Bone] = []
    names: list[str] = []
    rest_of = human_bones(data)
    for name, (parent, head, tail, roll) in rest_of.items():
        moves = name == "pelvis"
        pose = Transform(free_rotation=(parent != "",) * 3, free_location=(moves,) * 3)
        bones.append(Bone(name, names.index(parent) if parent else -1, _rest_matrix(head, tail, roll), pose))
        names.append(name)
    weights = human_weights(data)
    entries = [(index[v], names.index(name), w) for name, group in weights.items() for v, w in group if index[v] >= 0]
    vertices, owners, amounts = (np.array(column) for column in zip(*entries, strict=True))
    keys = []
    for name in _HUMAN_TARGETS:
        offsets = np.zeros_like(points)
        with gzip.open(folder / f"{name}.target.gz", "rt") as lines:
            for line in lines:
                if line.strip() and not line.startswith("#"):
                    vertex, *offset = line.split()
                    offsets[int(vertex)] = _z_up(np.array(offset, dtype=float))
        keys.append(ShapeKey(name, offsets[used]))
    mesh = Mesh(points[used], index[faces])
    return Rig(mesh, shape_keys=tuple(keys), armature=Armature(tuple(bones), vertices, owners, amounts))


def human_mesh(data: Path) -> tuple[np.ndarray, list[list[int]], np.ndarray]:
    """All points (N, 3) of the base mesh in metres, z up, the quads of the visible skin, and the points of those."""
    points, polygons = [], []
    group = ""
    for line in (data / "mpfb_human" / "base.obj").read_text().splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            points.append([float(number) for number in rest])
        elif kind == "g":
            group = rest[0]
        elif kind == "f" and group == "body":
            polygons.append([int(corner.split("/")[0]) - 1 for corner in rest])
    return _z_up(np.array(points)), polygons, np.unique(polygons)


def human_bones(data: Path) -> dict[str, tuple[str, np.ndarray, np.ndarray, float]]:
    """Name -> (parent's name or "", head, tail, roll) of the base mesh's bones, parents first."""
    folder = data / "mpfb_human"
    points, _, _ = human_mesh(data)
    cubes: dict[str, set[int]] = {}
    group = ""
    for line in (folder / "base.obj").read_text().splitlines():
        kind, *rest = line.split() or [""]
        if kind == "g":
            group = rest[0]
        elif kind == "f" and group.startswith("joint-"):
            cubes.setdefault(group, set()).update(int(corner.split("/")[0]) - 1 for corner in rest)
    rig = json.loads((folder / "rig.game_engine.json").read_bytes())

    def place(end: dict) -> np.ndarray:
        if end["strategy"] == "CUBE":
            chosen = sorted(cubes[end["cube_name"]])
        elif end["strategy"] == "MEAN":
            chosen = end["vertex_indices"]
        else:
            chosen = [end["vertex_index"]]
        return points[chosen].mean(axis=0)

    ordered: dict[str, tuple[str, np.ndarray, np.ndarray, float]] = {}
    while len(ordered) < len(rig):
        for name, bone in rig.items():
            if name not in ordered and (not bone["parent"] or bone["parent"] in ordered):
                ordered[name] = (bone["parent"], place(bone["head"]), place(bone["tail"]), bone["roll"])
    return ordered


def human_weights(data: Path) -> dict[str, list[tuple[int, float]]]:
    """Bone -> (point, weight) pairs of the base mesh."""
    return json.loads((data / "mpfb_human" / "weights.game_engine.json").read_bytes())["weights"]


def _z_up(points: np.ndarray) -> np.ndarray:
    """Decimetres with y up as metres with z up."""
    return points[..., [0, 2, 1]] * [0.1, -0.1, 0.1]


def _rest_matrix(head: np.ndarray, tail: np.ndarray, roll: float) -> np.ndarray:
    """(4, 4) the shortest turn of the y axis onto the bone, then the roll about the bone; at its head."""
    direction = (tail - head) / np.linalg.norm(tail - head)
    axis = np.cross([0, 1, 0], direction)
    shortest = Transform(rotation=(np.arccos(np.clip(direction[1], -1, 1)), *axis), mode="AXIS_ANGLE").matrix()
    matrix = Transform(rotation=(roll, *direction), mode="AXIS_ANGLE").matrix() @ shortest
    matrix[:3, 3] = head
    return matrix


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    from softras.rotations import rotation_numbers

    return rotation_numbers(matrix, "QUATERNION", np.array([1.0, 0, 0, 0]))


def _read_glb(path: Path) -> tuple[list[dict], dict[int, np.ndarray], dict]:
    """Nodes, accessor arrays and the document of a binary glTF file; no sparse and no interleaved accessors."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + length])
    buffer = content[28 + length :]
    arrays = {}
    for number, accessor in enumerate(document["accessors"]):
        view = document["bufferViews"][accessor["bufferView"]]
        width = _WIDTH[accessor["type"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        array = np.frombuffer(buffer, _NUMBERS[accessor["componentType"]], accessor["count"] * width, start)
        arrays[number] = array.reshape(-1, width) if width > 1 else array
    return document["nodes"], arrays, document
