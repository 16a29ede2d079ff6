/* SPDX-License-Identifier: MIT
   The C ABI of the native CPU backend, called from Python through ctypes (engine/softras/raster/native/cpu.py). */
#pragma once
#include <stdint.h>

/* The name of an entry point in the instruction set that a source is compiled for. */
#define SR_JOIN_(a, b) a##b
#define SR_JOIN(a, b) SR_JOIN_(a, b)
#define SR_ENTRY(name) SR_JOIN(name##_, SOFTRAS_ISA)

#ifdef __cplusplus
extern "C" {
#endif

/* One call: N silhouettes of one mesh, or their backward pass. All arrays are dense, row-major, of
   the call's scalar type (float or double) unless typed here. */
typedef struct {
  int32_t views, vertices, faces, height, width;
  int32_t threads;          /* at most this many */
  int32_t shared_vertices;  /* 1: vertex positions (V,3) for all views, 0: (N,V,3) */
  int32_t wide_indices;     /* 1: face_indices are int64, 0: int32 */
  int32_t cull;             /* 1: drop faces seen from behind */
  int32_t backward;         /* 1: the backward pass; no pointer tells, since those of empty arrays are null */
  double sigma;             /* squared NDC */
  const void *positions, *face_indices, *intrinsics /* (N,3,3) */, *world_to_camera /* (N,4,4) */;
  const uint8_t *orthographic; /* (N) */
  const double *near_planes;   /* (N) */
  void *alpha;                 /* (N,H,W): out; null in the backward pass */
  void *transmittance;         /* (N,H,W), 1 - alpha without its rounding: out, in for the backward pass */
  const void *grad_alpha;      /* (N,H,W): in the backward pass */
  void *grad_positions, *grad_intrinsics, *grad_world_to_camera; /* out: written, not added to */
} softras_call;

/* The derivatives of some pixels' alpha with respect to parameters that move the vertices and the cameras. */
typedef struct {
  softras_call scene;    /* its transmittance: in; alpha and the gradients are not used */
  int32_t parameters;    /* P */
  int64_t count;         /* M */
  const int64_t *pixels; /* (M): places in alpha, ascending */
  /* derivatives, each null for zero: (V,3,P) or (N,V,3,P) as the positions are, (N,3,3,P), (N,4,4,P) */
  const void *d_positions, *d_intrinsics, *d_world_to_camera;
  void *rows; /* (M,P): out */
} softras_jacobian_call;

/* N images of one mesh and their alpha, or their backward pass. */
typedef struct {
  softras_call scene; /* sigma in NDC where not squared; transmittance, unless plain: of type
                         double, S of softras_modes.h, or the first largest face where the T-conorm takes the largest */
  int32_t plain;      /* 1: euclidean, squared, logistic, probabilistic, and SoftRas's cut-off */
  int32_t distance;   /* 0 euclidean, 1 barycentric, 2 hard */
  int32_t squared, distribution, conorm; /* of softras_modes.h */
  double shape, shift, power, cutoff, radius /* the cut-off in NDC or barycentric */, gamma, eps;
  const double *far_planes;                         /* (N) */
  int32_t channels, rows, width, shared_attributes; /* of the image; attributes (rows,width) or (N,rows,width) */
  const void *attributes, *attribute_faces;         /* indices typed as face_indices */
  const void *background;                           /* (N,channels) */
  /* 0 none; 1 surface: texels (F,resolution^2,texture_channels); 2 UV: (chain,texture_channels). Per view if not shared */
  int32_t texture, texture_channels, lit, shared_texels;
  int32_t resolution, texture_height, texture_width, levels, wrap;
  int64_t texel_count;     /* of one view */
  const void *texels;
  const void *face_levels; /* (N,F) */
  /* out, in for the backward pass */
  void *image;           /* (N,channels,H,W) */
  void *depth, *weight;  /* (N,H,W): the least depth that counts, and the sum of the weights beside it */
  int32_t *nearest;      /* (N,H,W): the nearest face that covers the centre, or -1; may be null. Out only */
  /* the backward pass */
  const void *grad_image;
  void *grad_attributes; /* as attributes: out */
  void *grad_levels;     /* (N,F): out, or null */
  int64_t *grad_texels;  /* as texels, in units of texel_unit; added to, or null */
  double texel_unit;
} softras_image_call;

/* Exact coverage of one mesh in N views. Forward, it may keep what the derivatives need; a second call takes that and
   gives its memory back; a third and a fourth work with it. */
enum { SOFTRAS_COVERAGE_FORWARD = 0, SOFTRAS_COVERAGE_TAKE, SOFTRAS_COVERAGE_BACKWARD, SOFTRAS_COVERAGE_JACOBIAN };
typedef struct {
  softras_call scene; /* sigma and transmittance are not used */
  int32_t mode;
  int32_t keep; /* forward: whether anything is to be kept */
  /* the topology (engine/softras/raster/coverage/topology.py); coincident vertices are one in it */
  const void *source_faces;    /* (F,3): the faces that it is of, typed as face_indices */
  const int32_t *faces;        /* (F,3) */
  int64_t pairs, others, groups;
  const int32_t *pair_edges;   /* (pairs,4): vertices a and b, the face that goes from a to b, the one from b to a */
  const int32_t *other_edges;  /* (others,2): a and b */
  const int64_t *other_ends;   /* (others + 1): where the faces of each begin in other_faces, and the end */
  const int32_t *other_faces;
  const int8_t *other_directions; /* 1: the face goes from a to b; -1: from b to a */
  const int64_t *group_ends;   /* (groups + 1): where the vertices of each begin in copies, and the end */
  const int32_t *copies;       /* vertices in one place; the first is the one that faces name */
  /* what is kept */
  void *kept;      /* out of the forward pass; to take: in */
  int64_t *sampled_bands; /* (N): bands of rows whose coverage is that of samples, added to */
  int64_t *counts; /* (N,2): contours and pieces of each view; out of the forward pass, then in */
  void *contours, *pieces;
  /* the Jacobian: derivatives as in softras_jacobian_call */
  int32_t parameters;
  int64_t row_count;
  const int32_t *row_of_piece;
  const void *d_positions, *d_intrinsics, *d_world_to_camera;
  void *rows; /* (row_count,P): out */
} softras_coverage_call;

/* out = a b, each of batch[0] * batch[1] products of matrices. Strides count numbers; the rows of b and of out are dense,
   and so is out. */
typedef struct {
  int32_t threads; /* at most this many */
  int64_t batch[2], rows, depth, columns;
  int64_t a_batch[2], a_row, a_column, b_batch[2], b_row;
  const void *a, *b;
  void *out;
} softras_product_call;

/* out (rows,columns) = a sparse matrix in compressed rows times b (any,columns), both dense. */
typedef struct {
  int32_t threads; /* at most this many */
  int64_t rows, columns;
  const int64_t *starts, *indices; /* (rows + 1); (starts[rows]) columns of the entries */
  const void *values, *b;
  void *out;
} softras_sparse_call;

/* A symmetric positive definite matrix (size,size), of which softras_factor reads the upper half and replaces it by the
   factor U of U^T U; softras_solve takes that, and replaces right (size,columns) by the solution. */
typedef struct {
  int64_t size, columns;
  double *matrix, *right;
} softras_solve_call;

enum {
  SOFTRAS_OK = 0,
  SOFTRAS_BAD_POSITIONS,       /* NaN or infinite */
  SOFTRAS_BAD_INTRINSICS,
  SOFTRAS_BAD_WORLD_TO_CAMERA,
  SOFTRAS_BAD_FACE_INDEX,
  SOFTRAS_OUT_OF_MEMORY,
  SOFTRAS_BAD_ATTRIBUTE_INDEX,
  SOFTRAS_BAD_ATTRIBUTES,      /* NaN or infinite */
  SOFTRAS_BAD_TEXELS,
  SOFTRAS_BAD_BACKGROUND,
  SOFTRAS_STALE_TOPOLOGY, /* it is of other faces, or of vertices that were in one place and are no more */
  SOFTRAS_NOT_POSITIVE,   /* the matrix of equations to solve is not positive definite */
};

#if defined(_WIN32)
#define SOFTRAS_API __declspec(dllexport)
#else
#define SOFTRAS_API __attribute__((visibility("default")))
#endif

/* The version of this header. It grows whenever a structure or an entry point changes, and a caller that knows another
   version must not call anything else (engine/softras/raster/native/structures.py). */
#define SOFTRAS_ABI 3
SOFTRAS_API int softras_abi(void);

/* One field of a structure that C and Python share, or, where `field` is "", the structure itself. */
typedef struct {
  const char *structure, *field;
  int64_t offset, size; /* bytes */
} softras_layout_entry;

/* All structures and their fields, and after them an entry whose names are null. */
SOFTRAS_API const softras_layout_entry *softras_layout(void);

SOFTRAS_API int softras_silhouettes_float32(const softras_call *call);
SOFTRAS_API int softras_silhouettes_float64(const softras_call *call);
SOFTRAS_API int softras_silhouettes_jacobian_float32(const softras_jacobian_call *call);
SOFTRAS_API int softras_silhouettes_jacobian_float64(const softras_jacobian_call *call);
SOFTRAS_API int softras_images_float32(const softras_image_call *call);
SOFTRAS_API int softras_images_float64(const softras_image_call *call);
SOFTRAS_API int softras_coverage_float32(softras_coverage_call *call);
SOFTRAS_API int softras_coverage_float64(softras_coverage_call *call);
SOFTRAS_API int softras_product_float32(const softras_product_call *call);
SOFTRAS_API int softras_product_float64(const softras_product_call *call);
SOFTRAS_API int softras_sparse_product_float32(const softras_sparse_call *call);
SOFTRAS_API int softras_sparse_product_float64(const softras_sparse_call *call);
SOFTRAS_API int softras_factor_float64(const softras_solve_call *call);
SOFTRAS_API int softras_solve_float64(const softras_solve_call *call);
SOFTRAS_API const char *softras_instruction_set(void); /* the one chosen for this processor */

#ifdef __cplusplus
}
#endif
