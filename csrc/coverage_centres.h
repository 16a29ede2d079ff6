// SPDX-License-Identifier: MIT
// Which pixels' centres the silhouette covers, in a band of rows. A row of centres crosses contour edges; the winding number
// changes there, and it is not zero where some face covers a centre.
#pragma once
#include <stdint.h>

#include "coverage.h"
#include "memory.h"

namespace softras::SOFTRAS_ISA {

struct Centres {
  Buffer<int32_t> changes;  // (rows, width + 1): by how much the winding number changes before each centre of a row

  // Writes rows first_row <= row < last_row of an image, whose first row is `out`, as 1 and 0. list: the n contour edges that
  // reach into them. False: there is no memory.
  bool draw(const Contour* contours, const int* list, int64_t n, int first_row, int last_row, int width, uint8_t* out) {
    const int64_t stride = width + 1, rows = last_row - first_row;
    if (!changes.reserve(rows * stride)) return false;
    zero(changes.data, rows * stride);
    for (int64_t i = 0; i < n; i++) {
      const Contour& c = contours[list[i]];
      const double low = min(c.x[0], c.x[1]), high = max(c.x[0], c.x[1]);
      // An edge has its upper end and not its lower one, so that a row of centres crosses one of two edges that meet there.
      const int begin = (int)round_up(max(c.y[0] - 0.5, (double)first_row));
      const int end = (int)round_up(min(c.y[1] - 0.5, (double)last_row));
      for (int row = begin; row < end; row++) {
        const double x = min(max(c.x[0] + (row + 0.5 - c.y[0]) * c.slope, low), high);
        changes.data[(row - first_row) * stride + (int)round_up(min(max(x - 0.5, 0.0), (double)width))] += c.wind;
      }
    }
    for (int64_t row = 0; row < rows; row++) {
      const int32_t* change = changes.data + row * stride;
      int32_t winding = 0;
      for (int x = 0; x < width; x++) winding += change[x], out[row * width + x] = winding != 0;
    }
    return true;
  }
};

}  // namespace softras::SOFTRAS_ISA
