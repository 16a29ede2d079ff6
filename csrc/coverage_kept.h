// SPDX-License-Identifier: MIT
// What is kept of exact coverage for its derivatives: the contour edges and the pieces of the outline, from the call that has
// found them until the caller has memory for them.
#pragma once
#include <stdlib.h>
#include <string.h>

#include "coverage.h"
#include "coverage_sweep.h"
#include "memory.h"
#include "softras.h"

namespace softras::SOFTRAS_ISA {

// What is kept of one view for its derivatives.
struct Kept {
  List<Contour> contours;
  List<Piece>* bands;  // the pieces of each band of rows
  int64_t band_count;

  // Leaves out the contour edges without pieces, if they are so many that this pays, as in a heap of triangles. False: there
  // is no memory.
  bool compact() {
    if (contours.count <= pieces()) return true;
    Buffer<int> number;  // of each contour edge among those that are left
    if (!number.reserve(contours.count)) return false;
    zero(number.data, contours.count);
    for (int64_t b = 0; b < band_count; b++)
      for (int64_t i = 0; i < bands[b].count; i++) number[bands[b][i].contour] = 1;
    int64_t left = 0;
    for (int64_t c = 0; c < contours.count; c++) {
      contours.data[left] = contours[c];
      const int used = number[c];
      number[c] = (int)left, left += used;
    }
    contours.count = left;
    for (int64_t b = 0; b < band_count; b++)
      for (int64_t i = 0; i < bands[b].count; i++) bands[b].data[i].contour = number[bands[b][i].contour];
    return true;
  }

  // The number of pieces.
  int64_t pieces() const {
    int64_t n = 0;
    for (int64_t b = 0; b < band_count; b++) n += bands[b].count;
    return n;
  }
  void clear() {
    contours.clear();
    for (int64_t b = 0; b < band_count; b++) bands[b].clear();
    free(bands), bands = nullptr, band_count = 0;
  }
};

// What is kept of all views, from one call to the next: the handle softras_coverage_call::kept.
struct Result {
  int64_t views;
  Kept* kept;
};

// Frees what is kept.
inline void discard(Result* result) {
  if (!result) return;
  for (int64_t v = 0; result->kept && v < result->views; v++) result->kept[v].clear();
  free(result->kept);
  free(result);
}

// Writes what is kept into the caller's outline and frees it.
inline int take_kept(softras_coverage_call* c) {
  Result* result = (Result*)c->kept;
  char* to = (char*)c->outline;
  auto write = [&](const void* from, int64_t bytes) {
    if (bytes) memcpy(to, from, bytes);
    to += bytes;
  };
  for (int64_t v = 0; result && v < result->views; v++) {
    const OutlineSize size = {result->kept[v].contours.count, result->kept[v].pieces()};
    write(&size, sizeof(size));
  }
  for (int64_t v = 0; result && v < result->views; v++) {
    const Kept& k = result->kept[v];
    write(k.contours.data, k.contours.count * sizeof(Contour));
    for (int64_t b = 0; b < k.band_count; b++) write(k.bands[b].data, k.bands[b].count * sizeof(Piece));
  }
  discard(result);
  c->kept = nullptr;
  return SOFTRAS_OK;
}

}  // namespace softras::SOFTRAS_ISA
