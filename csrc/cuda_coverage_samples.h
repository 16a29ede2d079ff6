// SPDX-License-Identifier: MIT
// Coverage by samples on the GPU, for bands of rows with so many contour edges that comparing each with each would take too
// long, as in a heap of unconnected triangles. Each pixel has kSide x kSide samples of one bit. An edge changes the winding
// number of the samples to its right, and a sample is set where that number is not zero. For the derivatives, a contour edge is
// on the outline where it passes between a sample that is set and one that is not, as on the CPU (coverage_samples.h).
#pragma once
#include "cuda_coverage.h"

namespace softras::SOFTRAS_ISA {

// A kernel: adds up by how much the winding number changes at the samples of the rows that are drawn in this call.
template <class T>
__device__ void add_changes(const CoverageCall& call) {
  Own own;
  if (!own_rows(call, own)) return;
  const long long lines = call.lines, samples = lines * call.scene.width;  // of a row of pixels, and of a line
  for (; own.row < own.last; own.row += kShare) {
    const int slot = call.slot_of_row[row_index(call, own.view, own.row)] - call.first_slot;
    if (slot < 0 || slot >= call.slots) continue;
    for (int line = 0; line < lines; line++) {
      const double y = own.row + (line + 0.5) / lines;
      if (!(own.c.y[0] <= y && y < own.c.y[1])) continue;
      const double right = round_up(max(x_on(own.c, y) * lines - 0.5, 0.0));  // the first sample to the right
      if (right < samples)
        atomicAdd(call.changes + (slot * lines + line) * samples + (long long)right, own.c.wind);
    }
  }
}

// A kernel: finds the samples of the rows that are drawn in this call, a warp for each row and a pixel for each thread.
template <class T>
__device__ void draw_samples(const CoverageCall& call) {
  const int slot = blockIdx.x * kWarps + warp_of_thread(), lane = lane_of_thread(), width = call.scene.width;
  if (slot >= call.slots) return;
  const long long number = call.sampled_rows[call.first_slot + slot], rows = (long long)call.bands * kBand;
  const int view = (int)(number / rows), row = (int)(number % rows);
  if (row >= call.scene.height) return;
  int before[kSide] = {};  // the winding number of each line to the left of these 32 pixels
  for (int first = 0; first < width; first += kWarp) {
    const int x = first + lane;
    Area pixel = 0;
#pragma unroll
    for (int line = 0; line < kSide; line++) {
      const int* changes = call.changes + (((long long)slot * kSide + line) * width + x) * kSide;
      int change[kSide], all = 0;
      for (int i = 0; i < kSide; i++) change[i] = x < width ? changes[i] : 0, all += change[i];
      int winding = all;  // becomes that after this pixel
      for (int o = 1; o < kWarp; o *= 2) {
        const int less = __shfl_up_sync(kAll, winding, o);
        if (lane >= o) winding += less;
      }
      winding += before[line], before[line] = __shfl_sync(kAll, winding, kWarp - 1);
      int here = winding - all;
      for (int i = 0; i < kSide; i++) here += change[i], pixel |= (Area)(here != 0) << (kSide * line + i);
    }
    if (x < width) call.areas[area_index(call, view, row, x)] = pixel;
  }
}

// Sample `sample` on line `line` of an image of samples, 0 or 1.
__device__ inline int sample_at(const CoverageCall& call, int view, long long line, long long sample) {
  const Area pixel = call.areas[area_index(call, view, (int)(line / kSide), (int)(sample / kSide))];
  return (int)(pixel >> (line % kSide * kSide + sample % kSide) & 1);
}

// Calls use(column, least t, greatest t, side) for the parts of a contour edge that are on the outline in a row that is
// sampled, in steps of one sample: from top to bottom if the edge is steep, else from left to right. side is that of
// weigh_piece().
template <class Use>
__device__ inline void sampled_outline(const CoverageCall& call, const Own& own, Use use) {
  const Contour& c = own.c;
  const int row = own.row, width = call.scene.width;
  const double h = 0.5 / kSide, least = min(c.x[0], c.x[1]), most = max(c.x[0], c.x[1]);
  const double top = max(c.y[0], (double)row), bottom = min(c.y[1], row + 1.0);
  if (c.steep) {
    for (int line = 0; line < kSide; line++) {
      const double y = row + (line + 0.5) / kSide, x = x_on(c, y), right = round_up(x * kSide - 0.5);
      if (!(top <= y && y < bottom && right >= 1 && right < (double)kSide * width)) continue;
      const long long at = (long long)right, number = (long long)row * kSide + line;
      const int side = sample_at(call, own.view, number, at) - sample_at(call, own.view, number, at - 1);
      if (side != 0) use((int)x, t_at(c, 0, max(y - h, c.y[0])), t_at(c, 0, min(y + h, c.y[1])), (double)side);
    }
    return;
  }
  const double xa = x_on(c, top), xb = x_on(c, bottom);
  const double low = max(min(xa, xb), 0.0), high = min(max(xa, xb), (double)width);
  for (int column = (int)low; column < high; column++) {
    for (int i = 0; i < kSide; i++) {
      const double x = column + (i + 0.5) / kSide;
      const double y = min(max(c.y[0] + (x - c.x[0]) / c.slope, top), bottom), lower = round_up(y * kSide - 0.5);
      if (!(low <= x && x < high && lower >= 1 && lower < (double)kSide * call.scene.height)) continue;
      const long long at = (long long)lower, number = (long long)column * kSide + i;
      // Beyond the border of a band that is measured exactly there are no samples.
      if (!is_sampled(call, own.view, (int)((at - 1) / kSide)) || !is_sampled(call, own.view, (int)(at / kSide))) continue;
      const int below = sample_at(call, own.view, at, number) - sample_at(call, own.view, at - 1, number);
      if (below == 0) continue;
      const double ta = t_at(c, max(x - h, least), 0), tb = t_at(c, min(x + h, most), 0);
      // Of an edge that goes down to the right, what is above it is to its right.
      use(column, min(ta, tb), max(ta, tb), c.slope > 0 ? -(double)below : (double)below);
    }
  }
}

}  // namespace softras::SOFTRAS_ISA
