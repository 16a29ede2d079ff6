/* SPDX-License-Identifier: MIT
   The C ABI of the native CPU backend, called from Python through ctypes (engine/softras/raster/native/cpu.py). */
#pragma once
#include <stdint.h>

/* SR_ENTRY(name) is the entry point's name followed by the instruction set that the file is compiled for. */
#define SR_JOIN_(a, b) a##b
#define SR_JOIN(a, b) SR_JOIN_(a, b)
#define SR_ENTRY(name) SR_JOIN(name##_, SOFTRAS_ISA)

#ifdef __cplusplus
extern "C" {
#endif

/* In what follows N is the number of views, V of vertices, F of faces, H and W of rows and columns of the image, P of
   parameters. Arrays are dense and row-major. Those declared `void` hold the scalar type of the entry point, float or
   double. "In" and "out" say which side fills an array. */

/* N soft silhouettes of one mesh, or their backward pass. The calls for the Jacobian, images and exact coverage begin with
   this one, as their scene. */
typedef struct {
  int32_t views, vertices, faces, height, width;
  int32_t threads;          /* the greatest number of threads that share the work */
  int32_t shared_vertices;  /* 1: all views see the same positions (V,3); 0: each view has its own, (N,V,3) */
  int32_t wide_indices;     /* 1: face_indices are int64; 0: they are int32 */
  int32_t cull;             /* 1: faces seen from behind count nowhere */
  int32_t backward;         /* 1: the backward pass. The pointers do not tell, since those of empty arrays are null */
  double sigma;             /* the blur, in squared normalized device coordinates, which span [-1, 1] over the shorter
                               side of the image */
  const void *positions, *face_indices /* (F,3) */, *intrinsics /* (N,3,3) */, *world_to_camera /* (N,4,4) */;
  const uint8_t *orthographic; /* (N): 1 for views without perspective */
  const double *near_planes;   /* (N): depths in front of which nothing is seen, in scene units */
  void *alpha;                 /* (N,H,W): out; null in the backward pass */
  void *transmittance;         /* (N,H,W): 1 - alpha, which keeps its digits where alpha rounds to 1; out of the forward
                                  pass, in to the backward pass */
  const void *grad_alpha;      /* (N,H,W): gradient of the loss with respect to alpha; in to the backward pass */
  void *grad_positions, *grad_intrinsics, *grad_world_to_camera; /* shaped as their arrays: out; overwritten. Exact coverage
                                  leaves out those that are null */
} softras_call;

/* The Jacobian of silhouettes: derivatives of the alpha of M chosen pixels with respect to P parameters, which move the
   vertices and the cameras. */
typedef struct {
  softras_call scene;    /* transmittance is an input; alpha and the gradients are not used */
  int32_t parameters;    /* P */
  int64_t count;         /* M */
  const int64_t *pixels; /* (M): indices into alpha flattened, ascending */
  /* Derivatives of the inputs with respect to the parameters: (V,3,P) or (N,V,3,P) as the positions are shaped,
     (N,3,3,P) and (N,4,4,P). A null pointer stands for zeros. */
  const void *d_positions, *d_intrinsics, *d_world_to_camera;
  void *rows; /* (M,P): out */
} softras_jacobian_call;

/* N images of one mesh together with their alpha, or the backward pass of both. */
typedef struct {
  softras_call scene; /* sigma is in NDC, not squared, where `squared` is 0. Unless `plain`, transmittance is an array of
                         double that holds each pixel's S (softras_modes.h), or, for the T-conorms that take the largest
                         coverage, the number of the first face that has it */
  int32_t plain;      /* 1: Euclidean distance, squared, logistic distribution, probabilistic T-conorm, SoftRas's cut-off */
  int32_t distance;   /* enum Distance of fragment.h */
  int32_t squared, distribution, conorm; /* 1 if the distance is squared; enums Distribution and Conorm of softras_modes.h */
  double shape, shift, power; /* parameters of the distribution (shape, shift) and of the T-conorm (power) */
  double cutoff;      /* a face counts where the signed distance, in units of the blur, is greater than this */
  double radius;      /* the same cut-off as a distance outside of the face, in NDC, or in barycentric coordinates */
  double gamma, eps;  /* gamma: how softly depths blend; eps: how far before the far plane the background lies, as a share
                         of far - near */
  const double *far_planes;                         /* (N): depths, in scene units, behind which nothing is seen */
  int32_t channels;                                 /* C of the image */
  int32_t rows, width, shared_attributes;           /* attributes are (rows,width) for all views, or (N,rows,width) */
  const void *attributes, *attribute_faces;         /* attribute_faces (F,3): rows of attributes, typed as face_indices */
  const void *background;                           /* (N,channels) */
  int32_t texture;    /* 0: none; 1: surface texture, texels (F,resolution^2,texture_channels); 2: UV texture, texels
                         (texel_count,texture_channels) of a mip chain */
  int32_t texture_channels, lit, shared_texels;     /* lit: attributes hold light; shared_texels: one set for all views */
  int32_t resolution, texture_height, texture_width, levels, wrap; /* wrap: enum Wrap of softras_texture.h */
  int64_t texel_count;     /* texels of one view */
  const void *texels;
  const void *face_levels; /* (N,F): the mip level of each face at depth 1 */
  /* Out of the forward pass, in to the backward pass. */
  void *image;           /* (N,C,H,W) */
  void *depth, *weight;  /* (N,H,W): the least depth of what counts in a pixel, and the sum of the weights relative to it */
  int32_t *nearest;      /* (N,H,W): the nearest face that covers the pixel's centre, -1 where none does; out only, or null */
  /* The backward pass. */
  const void *grad_image;
  void *grad_attributes; /* shaped as attributes: out */
  void *grad_levels;     /* (N,F): out, or null */
  int64_t *grad_texels;  /* shaped as texels, in units of texel_unit: added to; or null */
  double texel_unit;
} softras_image_call;

/* Exact coverage of one mesh in N views. One entry point does six things: FORWARD draws and, if asked to, writes the
   outline, which derivatives need, into the caller's memory; where that has not enough room, TAKE writes it into memory that
   has. BACKWARD works with the outline, and so do PIXELS and, after it, JACOBIAN. CENTRES draws which pixels' centres are
   covered: alpha is then an array of bytes, 1 or 0. */
enum {
  SOFTRAS_COVERAGE_FORWARD = 0,
  SOFTRAS_COVERAGE_TAKE,
  SOFTRAS_COVERAGE_BACKWARD,
  SOFTRAS_COVERAGE_PIXELS,
  SOFTRAS_COVERAGE_JACOBIAN,
  SOFTRAS_COVERAGE_CENTRES
};
typedef struct {
  softras_call scene; /* sigma and transmittance are not used */
  int32_t mode;       /* one of the six */
  int32_t keep;       /* FORWARD: whether the outline is kept */
  /* The topology of the faces (engine/softras/raster/coverage/topology.py), in which coincident vertices are one vertex. */
  const void *source_faces;    /* (F,3): the faces that the topology is of, typed as face_indices */
  const int32_t *faces;        /* (F,3): the same faces, whose corners name the first of coincident vertices */
  int64_t pairs, others, groups;
  /* Edges that two faces traverse in opposite directions: (pairs,2) the face that goes from vertex a to vertex b and the
     one that goes from b to a; (pairs,2) a and b. */
  const int32_t *pair_faces, *pair_vertices;
  const int32_t *other_edges;  /* (others,2): vertices a and b of all other edges */
  const int64_t *other_ends;   /* (others + 1): where the faces of each other edge begin in other_faces, and the end */
  const int32_t *other_faces;
  const int8_t *other_directions; /* beside other_faces: 1 if the face goes from a to b, -1 if it goes from b to a */
  const int64_t *group_ends;   /* (groups + 1): where each group of coincident vertices begins in copies, and the end */
  const int32_t *copies;       /* vertices, group after group; faces name the first vertex of a group */
  /* What is kept. */
  void *outline;   /* (N) OutlineSize, then for each view its contour edges and its pieces (coverage.h) */
  int64_t room;    /* bytes that `outline` has room for: in to FORWARD */
  int64_t bytes, pieces, sampled_bands; /* out of FORWARD: the bytes that the outline needs, its pieces in all views, and
                      the bands of rows in all views whose coverage was estimated by samples */
  void *kept;      /* out of FORWARD, in to TAKE: a handle of an outline that has no room, or null */
  /* The pixels on the outline: out of PIXELS, in to JACOBIAN. */
  int64_t *pixels;       /* (row_count): indices into alpha flattened, ascending; with room for as many as there are pieces */
  int32_t *row_of_piece; /* (pieces): for each piece the number of its pixel among these */
  int64_t row_count;
  /* JACOBIAN. The derivatives are as in softras_jacobian_call. */
  int32_t parameters;
  const void *d_positions, *d_intrinsics, *d_world_to_camera;
  void *rows; /* (row_count,P): out */
} softras_coverage_call;

/* out = a b for each of batch[0] * batch[1] pairs of matrices, (rows,depth) times (depth,columns). The steps between
   successive matrices, rows and columns count numbers. Rows of b are dense, and the whole of out is. */
typedef struct {
  int32_t threads; /* the greatest number of threads that share the work */
  int64_t batch[2], rows, depth, columns;
  int64_t a_batch[2], a_row, a_column, b_batch[2], b_row;
  const void *a, *b;
  void *out;
} softras_product_call;

/* out (rows,columns) = a sparse matrix in compressed rows times a dense matrix b of any number of rows. */
typedef struct {
  int32_t threads; /* the greatest number of threads that share the work */
  int64_t rows, columns;
  const int64_t *starts;  /* (rows + 1): where the entries of each row begin, and the end */
  const int64_t *indices; /* the column of each entry */
  const void *values, *b;
  void *out;
} softras_sparse_call;

/* Equations with a symmetric positive definite matrix (size,size). softras_factor reads the upper half of the matrix and
   replaces it by U, the Cholesky factor with U^T U = matrix. softras_solve takes that and replaces right (size,columns)
   by the solution. */
typedef struct {
  int64_t size, columns;
  double *matrix, *right;
} softras_solve_call;

/* A loss of a mesh by itself, with its gradient by the vertices; H is the number of hinges, pairs of faces at one edge. The
   entry points are softras_roughness, softras_folding and softras_distortion (softras_mesh.cpp). */
typedef struct {
  int64_t vertices, faces, hinges;
  int32_t order;               /* roughness: how many times the Laplacian is applied */
  double scale;                /* value and gradient are multiplied by it */
  const void *positions;       /* (V,3) */
  const int64_t *face_indices; /* (F,3), of vertices that exist: this is not checked */
  const int64_t *hinge_faces;  /* (H,2) */
  const uint8_t *turned;       /* (H): 1 if the two faces of the hinge are oriented against each other */
  const int64_t *starts, *neighbours; /* (V + 1): where the neighbours of each vertex begin in `neighbours`, and the end */
  const void *rest;            /* folding: (H) cosines at rest, or null; distortion: (F,3) cotangents at rest */
  void *value, *gradient;      /* one number, and (V,3): out */
} softras_mesh_call;

/* How N silhouettes compare with masks, pixel by pixel: the sums of a m, k a and (k a - m)^2 over alpha a, with the mask m
   (times k) and k, how much is known of the pixel; or their backward pass (softras_comparison.cpp). */
typedef struct {
  int32_t views, threads;
  int32_t outline;             /* 1: the gradient is not needed, and may be zero, where a is 0 or 1 */
  int64_t pixels;              /* of each view */
  const int64_t *mask_of_view; /* (N): which of the masks */
  const void *alpha, *masks;   /* (N,pixels), (masks,2,pixels): m and k */
  void *sums;                  /* (N,3): out; in the backward pass in, the gradient by the sums */
  void *grad_alpha;            /* (N,pixels): out of the backward pass; null in the forward pass */
} softras_comparison_call;

/* What an entry point returns. */
enum {
  SOFTRAS_OK = 0,
  SOFTRAS_BAD_POSITIONS,       /* some number of positions is NaN or infinite; the same for the two below */
  SOFTRAS_BAD_INTRINSICS,
  SOFTRAS_BAD_WORLD_TO_CAMERA,
  SOFTRAS_BAD_FACE_INDEX,      /* a face names a vertex that does not exist */
  SOFTRAS_OUT_OF_MEMORY,
  SOFTRAS_BAD_ATTRIBUTE_INDEX, /* attribute_faces name a row that does not exist */
  SOFTRAS_BAD_ATTRIBUTES,      /* some number of attributes is NaN or infinite; the same for the two below */
  SOFTRAS_BAD_TEXELS,
  SOFTRAS_BAD_BACKGROUND,
  SOFTRAS_STALE_TOPOLOGY,      /* the topology is of other faces, or vertices that were coincident are so no longer */
  SOFTRAS_NOT_POSITIVE,        /* the matrix of the equations is not positive definite */
};

#if defined(_WIN32)
#define SOFTRAS_API __declspec(dllexport)
#else
#define SOFTRAS_API __attribute__((visibility("default")))
#endif

/* The version of this header. It grows whenever a structure or an entry point changes, and a caller that knows another
   version must not call anything else (engine/softras/raster/native/structures.py). */
#define SOFTRAS_ABI 7
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
SOFTRAS_API int softras_roughness_float32(const softras_mesh_call *call);
SOFTRAS_API int softras_roughness_float64(const softras_mesh_call *call);
SOFTRAS_API int softras_folding_float32(const softras_mesh_call *call);
SOFTRAS_API int softras_folding_float64(const softras_mesh_call *call);
SOFTRAS_API int softras_distortion_float32(const softras_mesh_call *call);
SOFTRAS_API int softras_distortion_float64(const softras_mesh_call *call);
SOFTRAS_API int softras_comparison_float32(const softras_comparison_call *call);
SOFTRAS_API int softras_comparison_float64(const softras_comparison_call *call);
SOFTRAS_API int softras_factor_float64(const softras_solve_call *call);
SOFTRAS_API int softras_solve_float64(const softras_solve_call *call);
SOFTRAS_API const char *softras_instruction_set(void); /* the name of the one in use */

#ifdef __cplusplus
}
#endif
