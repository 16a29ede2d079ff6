// SPDX-License-Identifier: MIT
// The layout of the structures that C and Python share. Python compares it with its own declarations when it loads the
// library (engine/softras/raster/native/structures.py), so that a field added, moved or changed on one side alone is
// refused by name and no memory is read wrongly.
#include <stddef.h>

#include "coverage.h"
#include "softras.h"

namespace softras::SOFTRAS_ISA {

#define QUOTED_(name) #name
#define QUOTED(name) QUOTED_(name)
// One entry of the table: STRUCTURE, defined before each list, is the structure that the fields belong to.
#define SIZE {QUOTED(STRUCTURE), "", 0, sizeof(STRUCTURE)},
#define FIELD(field) {QUOTED(STRUCTURE), #field, offsetof(STRUCTURE, field), sizeof(STRUCTURE::field)},

static const softras_layout_entry entries[] = {
#define STRUCTURE softras_call
    SIZE FIELD(views) FIELD(vertices) FIELD(faces) FIELD(height) FIELD(width) FIELD(threads) FIELD(shared_vertices)
    FIELD(wide_indices) FIELD(cull) FIELD(backward) FIELD(sigma) FIELD(positions) FIELD(face_indices)
    FIELD(intrinsics) FIELD(world_to_camera) FIELD(orthographic) FIELD(near_planes) FIELD(alpha) FIELD(transmittance)
    FIELD(grad_alpha) FIELD(grad_positions) FIELD(grad_intrinsics) FIELD(grad_world_to_camera)
#undef STRUCTURE
#define STRUCTURE softras_jacobian_call
    SIZE FIELD(scene) FIELD(parameters) FIELD(count) FIELD(pixels) FIELD(d_positions) FIELD(d_intrinsics)
    FIELD(d_world_to_camera) FIELD(rows)
#undef STRUCTURE
#define STRUCTURE softras_image_call
    SIZE FIELD(scene) FIELD(plain) FIELD(distance) FIELD(squared) FIELD(distribution) FIELD(conorm) FIELD(shape)
    FIELD(shift) FIELD(power) FIELD(cutoff) FIELD(radius) FIELD(gamma) FIELD(eps) FIELD(far_planes) FIELD(channels)
    FIELD(rows) FIELD(width) FIELD(shared_attributes) FIELD(attributes) FIELD(attribute_faces) FIELD(background)
    FIELD(texture) FIELD(texture_channels) FIELD(lit) FIELD(shared_texels) FIELD(resolution) FIELD(texture_height)
    FIELD(texture_width) FIELD(levels) FIELD(wrap) FIELD(texel_count) FIELD(texels) FIELD(face_levels) FIELD(image)
    FIELD(depth) FIELD(weight) FIELD(nearest) FIELD(grad_image) FIELD(grad_attributes) FIELD(grad_levels)
    FIELD(grad_texels) FIELD(texel_unit)
#undef STRUCTURE
#define STRUCTURE softras_coverage_call
    SIZE FIELD(scene) FIELD(mode) FIELD(keep) FIELD(source_faces) FIELD(faces) FIELD(pairs) FIELD(others) FIELD(groups)
    FIELD(pair_faces) FIELD(pair_vertices) FIELD(other_edges) FIELD(other_ends) FIELD(other_faces) FIELD(other_directions) FIELD(group_ends)
    FIELD(copies) FIELD(outline) FIELD(room) FIELD(bytes) FIELD(pieces) FIELD(sampled_bands) FIELD(kept)
    FIELD(pixels) FIELD(row_of_piece) FIELD(row_count) FIELD(parameters) FIELD(d_positions) FIELD(d_intrinsics)
    FIELD(d_world_to_camera) FIELD(rows)
#undef STRUCTURE
#define STRUCTURE softras_product_call
    SIZE FIELD(threads) FIELD(batch) FIELD(rows) FIELD(depth) FIELD(columns) FIELD(a_batch) FIELD(a_row) FIELD(a_column)
    FIELD(b_batch) FIELD(b_row) FIELD(a) FIELD(b) FIELD(out)
#undef STRUCTURE
#define STRUCTURE softras_sparse_call
    SIZE FIELD(threads) FIELD(rows) FIELD(columns) FIELD(starts) FIELD(indices) FIELD(values) FIELD(b) FIELD(out)
#undef STRUCTURE
#define STRUCTURE softras_solve_call
    SIZE FIELD(size) FIELD(columns) FIELD(matrix) FIELD(right)
#undef STRUCTURE
#define STRUCTURE softras_mesh_call
    SIZE FIELD(vertices) FIELD(faces) FIELD(hinges) FIELD(order) FIELD(scale) FIELD(positions) FIELD(face_indices)
    FIELD(hinge_faces) FIELD(turned) FIELD(starts) FIELD(neighbours) FIELD(rest) FIELD(value) FIELD(gradient)
#undef STRUCTURE
#define STRUCTURE softras_comparison_call
    SIZE FIELD(views) FIELD(threads) FIELD(outline) FIELD(pixels) FIELD(mask_of_view) FIELD(alpha) FIELD(masks)
    FIELD(sums) FIELD(grad_alpha)
#undef STRUCTURE
#define STRUCTURE End
    SIZE FIELD(a) FIELD(b) FIELD(s)
#undef STRUCTURE
#define STRUCTURE Contour
    SIZE FIELD(x) FIELD(y) FIELD(slope) FIELD(inverse) FIELD(end) FIELD(wind) FIELD(steep)
#undef STRUCTURE
#define STRUCTURE OutlineSize
    SIZE FIELD(contours) FIELD(pieces)
#undef STRUCTURE
#define STRUCTURE Piece
    SIZE FIELD(pixel) FIELD(contour) FIELD(w)
#undef STRUCTURE
    {NULL, NULL, 0, 0}};

}  // namespace softras::SOFTRAS_ISA

extern "C" const softras_layout_entry* softras_layout(void) { return softras::SOFTRAS_ISA::entries; }
