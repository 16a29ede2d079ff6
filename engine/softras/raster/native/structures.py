"""The structures of the native library's C ABI, and the check that it was built with the same.

csrc/softras.h and csrc/coverage.h declare them and say what each field is; csrc/layout.cpp tells their layout.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from ctypes import c_double, c_int32, c_int64, c_void_p

ABI = 7  # SOFTRAS_ABI of csrc/softras.h, which is raised whenever a structure or an entry point changes
STALE_TOPOLOGY = 10  # the status of a call whose topology does not fit its faces and vertices
BAND = 32  # kBand of csrc/coverage.h: rows of pixels that are measured together, exactly or by samples


def fields(kind: type, names: str) -> list[tuple[str, type]]:
    """Fields of one type, in their order."""
    return [(name, kind) for name in names.split()]


class Call(ctypes.Structure):
    """`softras_call`: the scene, and what silhouettes need beside it."""

    _fields_ = [
        *fields(c_int32, "views vertices faces height width threads shared_vertices wide_indices cull backward"),
        *fields(c_double, "sigma"),
        *fields(c_void_p, "positions face_indices intrinsics world_to_camera orthographic near_planes"),
        *fields(c_void_p, "alpha transmittance grad_alpha grad_positions grad_intrinsics grad_world_to_camera"),
    ]


class JacobianCall(ctypes.Structure):
    """`softras_jacobian_call`: rows of the Jacobian of silhouettes."""

    _fields_ = [
        ("scene", Call),
        *fields(c_int32, "parameters"),
        *fields(c_int64, "count"),
        *fields(c_void_p, "pixels d_positions d_intrinsics d_world_to_camera rows"),
    ]


class ImageCall(ctypes.Structure):
    """`softras_image_call`: images, their alpha and their backward pass."""

    _fields_ = [
        ("scene", Call),
        *fields(c_int32, "plain distance squared distribution conorm"),
        *fields(c_double, "shape shift power cutoff radius gamma eps"),
        *fields(c_void_p, "far_planes"),
        *fields(c_int32, "channels rows width shared_attributes"),
        *fields(c_void_p, "attributes attribute_faces background"),
        *fields(c_int32, "texture texture_channels lit shared_texels"),
        *fields(c_int32, "resolution texture_height texture_width levels wrap"),
        *fields(c_int64, "texel_count"),
        *fields(c_void_p, "texels face_levels image depth weight nearest"),
        *fields(c_void_p, "grad_image grad_attributes grad_levels grad_texels"),
        *fields(c_double, "texel_unit"),
    ]


class CoverageCall(ctypes.Structure):
    """`softras_coverage_call`: exact coverage and its derivatives."""

    _fields_ = [
        ("scene", Call),
        *fields(c_int32, "mode keep"),
        *fields(c_void_p, "source_faces faces"),
        *fields(c_int64, "pairs others groups"),
        *fields(
            c_void_p, "pair_faces pair_vertices other_edges other_ends other_faces other_directions group_ends copies"
        ),
        *fields(c_void_p, "outline"),
        *fields(c_int64, "room bytes pieces sampled_bands"),
        *fields(c_void_p, "kept pixels row_of_piece"),
        *fields(c_int64, "row_count"),
        *fields(c_int32, "parameters"),
        *fields(c_void_p, "d_positions d_intrinsics d_world_to_camera rows"),
    ]


class End(ctypes.Structure):
    """`End`: where a contour edge of exact coverage ends."""

    _fields_ = [*fields(ctypes.c_int, "a b"), *fields(c_double, "s")]


class Contour(ctypes.Structure):
    """`Contour`: a contour edge of exact coverage, kept for the derivatives."""

    _fields_ = [
        *fields(c_double * 2, "x y"),
        *fields(c_double, "slope inverse"),
        *fields(End * 2, "end"),
        *fields(ctypes.c_int, "wind steep"),
    ]


class Piece(ctypes.Structure):
    """`Piece`: the part of a contour edge in one pixel, kept for the derivatives."""

    _fields_ = [*fields(ctypes.c_int, "pixel contour"), *fields(c_double * 2, "w")]


class OutlineSize(ctypes.Structure):
    """`OutlineSize`: how many contour edges and pieces the outline of a view has."""

    _fields_ = [*fields(ctypes.c_longlong, "contours pieces")]


class ProductCall(ctypes.Structure):
    """`softras_product_call`: products of dense matrices."""

    _fields_ = [
        *fields(c_int32, "threads"),
        *fields(c_int64 * 2, "batch"),
        *fields(c_int64, "rows depth columns"),
        *fields(c_int64 * 2, "a_batch"),
        *fields(c_int64, "a_row a_column"),
        *fields(c_int64 * 2, "b_batch"),
        *fields(c_int64, "b_row"),
        *fields(c_void_p, "a b out"),
    ]


class SparseCall(ctypes.Structure):
    """`softras_sparse_call`: a sparse matrix times a dense one."""

    _fields_ = [
        *fields(c_int32, "threads"),
        *fields(c_int64, "rows columns"),
        *fields(c_void_p, "starts indices values b out"),
    ]


class SolveCall(ctypes.Structure):
    """`softras_solve_call`: the Cholesky factor of a matrix, and equations solved by it."""

    _fields_ = [*fields(c_int64, "size columns"), *fields(c_void_p, "matrix right")]


class MeshCall(ctypes.Structure):
    """`softras_mesh_call`: a loss of a mesh by itself, with its gradient."""

    _fields_ = [
        *fields(c_int64, "vertices faces hinges"),
        *fields(c_int32, "order"),
        *fields(c_double, "scale"),
        *fields(c_void_p, "positions face_indices hinge_faces turned starts neighbours rest value gradient"),
    ]


class ComparisonCall(ctypes.Structure):
    """`softras_comparison_call`: how silhouettes compare with masks."""

    _fields_ = [
        *fields(c_int32, "views threads outline"),
        *fields(c_int64, "pixels"),
        *fields(c_void_p, "mask_of_view alpha masks sums grad_alpha"),
    ]


def packer(kind: type[ctypes.Structure]) -> Callable[..., bytes]:
    """A function from the numbers of a structure, in the order of its fields, to its bytes.

    For calls so short that to make a ctypes structure would take most of their time. An array is as many numbers as it
    has elements.
    """
    codes = {c_int32: "i", c_int64: "q", c_double: "d", c_void_p: "P"}
    code = "@"
    for field in kind._fields_:
        element, count = field[1], getattr(field[1], "_length_", 1)
        code += codes[getattr(element, "_type_", element) if count > 1 else element] * count
    layout = struct.Struct(code)
    assert layout.size == ctypes.sizeof(kind), kind
    return layout.pack


STRUCTURES: dict[str, type[ctypes.Structure]] = {  # by their names in C
    "softras_call": Call,
    "softras_jacobian_call": JacobianCall,
    "softras_image_call": ImageCall,
    "softras_coverage_call": CoverageCall,
    "softras_product_call": ProductCall,
    "softras_sparse_call": SparseCall,
    "softras_solve_call": SolveCall,
    "softras_mesh_call": MeshCall,
    "softras_comparison_call": ComparisonCall,
    "End": End,
    "Contour": Contour,
    "Piece": Piece,
    "OutlineSize": OutlineSize,
}


class _Layout(ctypes.Structure):
    """`softras_layout_entry`: a field of a structure, or where `field` is empty the structure itself; in bytes."""

    _fields_ = [*fields(ctypes.c_char_p, "structure field"), *fields(c_int64, "offset size")]


def mismatch(library: ctypes.CDLL) -> str:
    """The first structure or field that the library has at another offset, in another size or not at all.

    As in "softras_call.height"; empty if there is none. The library's ABI number must be the one known here.
    """
    library.softras_layout.restype = ctypes.POINTER(_Layout)
    theirs, entry = {}, 0
    table = library.softras_layout()
    while table[entry].structure is not None:
        row = table[entry]
        theirs[row.structure.decode(), row.field.decode()] = row.offset, row.size
        entry += 1
    ours = {}
    for name, structure in STRUCTURES.items():
        ours[name, ""] = 0, ctypes.sizeof(structure)
        for field, *_ in structure._fields_:
            descriptor = getattr(structure, field)
            ours[name, field] = descriptor.offset, descriptor.size
    for key in {**ours, **theirs}:
        if ours.get(key) != theirs.get(key):
            return ".".join(filter(None, key))
    return ""
