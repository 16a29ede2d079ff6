"""The arguments of the CUDA kernels, and the numbers that their source and the code that launches them must agree on.

csrc/cuda_faces.h, cuda_jacobian.h, cuda_image.h and cuda_coverage.h declare the structures and say what each field is.
The kernels are compiled where they run, together with `assertions`, so that a difference is an error that names it.
"""

from __future__ import annotations

import ctypes
from ctypes import c_double, c_int32, c_int64, c_void_p

import torch

from .structures import BAND, Contour, fields

THREADS = 128  # threads of a block
CELL = 16  # pixels: a side of the squares in which a warp walks over a face
CAMERA = 18  # numbers of the gradient of one camera: rows 0 and 1 of K, rows 0 to 2 of world_to_camera
FACE_SUMS = 20  # numbers of the gradient of one face of an image, its attributes aside
SHOWN_FACE = {torch.float32: 96, torch.float64: 112}  # bytes in which a kernel keeps what one face shows in one view
SAMPLES = 8  # samples in each row and column of a pixel
SHARE = 8  # threads that share the rows of a contour edge
END_GRADIENT = 12  # numbers of the gradient of an end of a contour edge
_SCALARS = {"float": torch.float32, "double": torch.float64}  # by their names in the kernels


class Call(ctypes.Structure):
    """`Call`: the scene, and what silhouettes need beside it."""

    _fields_ = [
        *fields(c_int32, "views vertices faces height width shared_vertices wide_indices cull splits partials add"),
        *fields(c_double, "sigma"),
        *fields(c_void_p, "positions face_indices intrinsics world_to_camera orthographic near_planes status sums"),
        *fields(c_void_p, "alpha transmittance grad_alpha"),
        *fields(c_void_p, "pixel_gradients point_gradients clipped_intrinsics corner_gradients partial_gradients"),
        *fields(c_void_p, "grad_positions grad_intrinsics grad_world_to_camera"),
    ]


class JacobianCall(ctypes.Structure):
    """`JacobianCall`: rows of the Jacobian of silhouettes."""

    _fields_ = [
        ("scene", Call),
        *fields(c_int32, "parameters"),
        *fields(c_void_p, "row_of d_positions d_intrinsics d_world_to_camera rows"),
    ]


class ImageCall(ctypes.Structure):
    """`ImageCall`: images, their alpha and their backward pass."""

    _fields_ = [
        ("scene", Call),
        *fields(c_int32, "distance squared distribution conorm"),
        *fields(c_double, "shape shift power cutoff radius gamma eps"),
        *fields(c_void_p, "far_planes"),
        *fields(c_int32, "channels rows width shared_attributes"),
        *fields(c_void_p, "attributes attribute_faces background behind"),
        *fields(c_int32, "texture texture_channels lit shared_texels"),
        *fields(c_int32, "resolution texture_height texture_width levels wrap"),
        *fields(c_int64, "texel_count"),
        *fields(c_void_p, "texels face_levels image depth weight nearest"),
        *fields(c_void_p, "shown_faces nearest_depth largest weights colours magnitudes"),
        *fields(c_void_p, "grad_image face_sums grad_corners grad_levels grad_texels texel_unit"),
    ]


class CoverageCall(ctypes.Structure):
    """`CoverageCall`: exact coverage and its derivatives."""

    _fields_ = [
        ("scene", Call),
        *fields(c_int32, "bands pairs others coincident"),
        *fields(c_void_p, "source_faces faces pair_faces pair_vertices other_edges other_ends other_faces"),
        *fields(c_void_p, "other_directions copies firsts pixels front signs windings"),
        *fields(c_int64, "count"),
        *fields(c_void_p, "found contours counts sampled begins in_row areas"),
        *fields(c_int32, "first_slot slots lines"),
        *fields(c_void_p, "slot_of_row sampled_rows changes end_gradients end_vertices on_outline"),
        *fields(c_int32, "parameters first_parameter block"),
        *fields(c_void_p, "row_of d_positions d_intrinsics d_world_to_camera motions rows"),
    ]


def assertions() -> str:
    """Lines of CUDA that do not compile where the kernels' source differs from this module.

    NVRTC has no offsetof: that every field has the size known here and comes after the one before it, and that the
    structure is as large as here, leaves its fields no other offsets.
    """
    lines = ["namespace softras::SOFTRAS_ISA {"]
    for structure in (Call, JacobianCall, ImageCall, CoverageCall):
        name, last = structure.__name__, ""
        example = f"layout_of_{name}"
        lines.append(f"constexpr {name} {example} = {{}};")
        for field, *_ in structure._fields_:
            holds = f"sizeof({name}::{field}) == {getattr(structure, field).size}"
            if last:
                holds += f" && (const void*)&{example}.{last} < (const void*)&{example}.{field}"
            lines.append(_assertion(holds, f"{name}.{field}"))
            last = field
        lines.append(_assertion(f"sizeof({name}) == {ctypes.sizeof(structure)}", name))
    constants = {"kBlock": THREADS, "kCell": CELL, "kPartial": CAMERA, "kFaceSums": FACE_SUMS}
    constants |= {"kBand": BAND, "kSide": SAMPLES, "kShare": SHARE}
    constants |= {"sizeof(Contour)": ctypes.sizeof(Contour), "kEndGradient": END_GRADIENT}
    constants |= {f"sizeof(ShownFace<{name}>)": SHOWN_FACE[kind] for name, kind in _SCALARS.items()}
    lines += [_assertion(f"{name} == {value}", name) for name, value in constants.items()]
    return "\n".join([*lines, "}", ""])


def _assertion(holds: str, name: str) -> str:
    return f'static_assert({holds}, "{name} is not as cuda_structures.py has it");'
