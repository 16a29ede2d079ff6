// SPDX-License-Identifier: MIT
// The mathematics of exact coverage: the area of a mesh's silhouette inside each pixel, and its derivatives. The readable
// definition is engine/softras/raster/coverage/reference.py. Like softras_math.h, on which it builds, the file includes no
// standard header.
//
// The outline of each face is traversed in the direction that the sign of its projected area decides, so that all outlines
// together are closed curves whose winding number at a point is the number of faces that cover it. An edge between two
// faces of the same sign is traversed once each way and cancels; the remaining edges are the contour. The outline of the
// silhouette is where, on the way from left to right along a line, the winding number leaves zero or returns to it.
#pragma once
#include "softras_math.h"

namespace softras::SOFTRAS_ISA {

// The shear of the contour: for each pixel to the right, a point is moved down by so many pixels. It leaves no edge exactly
// horizontal, since a sweep from top to bottom would not see such an edge, although moving it changes areas.
constexpr double kShear = 1e-8;
// The greatest coordinate of a contour edge, in pixels. Points beyond it are moved there, so that sums of coordinates stay
// finite.
constexpr double kFarthest = 1e12;

// Rows of a band, all of which are measured exactly or all by samples. The number is the same for any number of threads,
// because it decides which rows are sampled.
constexpr int kBand = 32;
// Samples in each row and column of a pixel: those of a pixel are one word, on each line one byte.
constexpr int kSide = 8;

// An end of a contour edge: vertex a (then b = a and s = 0), or the point a + s (b - a) where the edge from vertex a to
// vertex b crosses the near plane.
struct End {
  int a, b;
  double s;
};

// A contour edge, in sheared pixels. End 0 is the upper one: y[0] <= y[1]. An edge of no height covers no area, but it connects
// the edges beside it, so that these are drawn together.
struct Contour {
  double x[2], y[2];
  double slope;    // dx / dy
  double inverse;  // 1 / dy if the edge is steep, else 1 / dx
  End end[2];
  int wind;   // the winding number to the right of the edge minus the one to its left
  int steep;  // 1 if the edge is at least as high as it is wide
};

// The part of a contour edge in one pixel, where the edge is on the outline of the silhouette. When the ends of the edge
// move, the coverage C of the pixel changes by
//   dC = -(D.y (w0 dx0 + w1 dx1) - D.x (w0 dy0 + w1 dy1))   with D = (x1 - x0, y1 - y0),
// which is Reynolds' transport theorem for a straight edge. With t from 0 at end 0 to 1 at end 1, w0 and w1 are the
// integrals of 1 - t and of t over the part, negative if the silhouette lies to the left of the edge.
struct Piece {
  int pixel;    // index in the view's image
  int contour;  // index among the view's contour edges
  double w[2];
};

// How many contour edges and pieces the outline of a view has.
struct OutlineSize {
  long long contours, pieces;
};

SR_HD double sheared(Vec2 q) { return q.y + kShear * q.x; }
SR_HD double bounded(double x) { return min(max(x, -kFarthest), kFarthest); }

// Where the edge is at height y.
SR_HD double x_at(const Contour& c, double y) { return c.x[0] + (y - c.y[0]) * c.slope; }

// t of a point (x, y) of the edge, from the coordinate that changes more along the edge.
SR_HD double t_at(const Contour& c, double x, double y) {
  return (c.steep ? y - c.y[0] : x - c.x[0]) * c.inverse;
}

// Makes the contour edge between two projected ends p and q. net: how many times faces traverse it from p to q, minus how
// many times from q to p. False: there is no such edge.
SR_HD bool make_contour(Vec2 p, Vec2 q, const End& from, const End& to, int net, Contour& out) {
  const double px = bounded(p.x), qx = bounded(q.x), py = sheared({px, bounded(p.y)}), qy = sheared({qx, bounded(q.y)});
  if (net == 0 || (py == qy && px == qx)) return false;
  const bool down = py < qy;
  out.x[0] = down ? px : qx, out.x[1] = down ? qx : px, out.y[0] = down ? py : qy, out.y[1] = down ? qy : py;
  out.end[0] = down ? from : to, out.end[1] = down ? to : from, out.wind = down ? -net : net;
  const double dx = out.x[1] - out.x[0], dy = out.y[1] - out.y[0];
  out.steep = absolute(dx) <= dy, out.slope = dx / dy, out.inverse = 1 / (out.steep ? dy : dx);
  return true;
}

// Cuts the part of a contour edge from (xa, ya) down to (xb, yb), which lies in one row of pixels, at the borders of the
// columns. For each part it calls cell(column, height of the part, its mean distance from the column's left border, least
// and greatest t, true). What lies left of the image is one part, with column -1. Without a branch between the two most
// frequent cases, a part in one column is cut into itself and a part of no height in the next, of which the call says false.
template <class Cell>
SR_HD void cut_at_columns(const Contour& c, double ya, double yb, double xa, double xb, int width, Cell cell) {
  const double height = yb - ya, low = min(xa, xb), high = max(xa, xb);
  if (low >= width) return;
  if (high <= 0) return cell(-1, height, 0.0, 0.0, 0.0, true);
  const double ta = t_at(c, xa, ya), tb = t_at(c, xb, yb);
  const int first = low < 0 ? -1 : (int)low;
  const double border = first + 1;
  if (first >= 0 && high <= border + 1 && border < width) {
    const bool two = high > border;
    const double share = two ? (border - low) / (high - low) : 1.0;  // of the part in the first column
    const double down = xa < xb, from = tb + down * (ta - tb), to = ta + tb - from, cut = from + share * (to - from);
    cell(first, share * height, 0.5 * (low + (two ? border : high)) - first, min(from, cut), max(from, cut), true);
    return cell(first + 1, height - share * height, two ? 0.5 * (high - border) : 0.0, min(to, cut), max(to, cut), two);
  }
  const int last = high >= width ? width - 1 : (int)high;
  if (first >= 0 && high < border) return cell(first, height, 0.5 * (low + high) - first, ta, tb, true);
  const double slope = height / (high - low);  // rows for each column
  for (int column = first; column <= last; column++) {
    const double l = column < 0 ? low : max((double)column, low), h = column < 0 ? 0.0 : min(column + 1.0, high);
    if (!(h > l)) continue;
    const double yl = xa < xb ? ya + (l - low) * slope : yb - (l - low) * slope;
    const double yh = xa < xb ? ya + (h - low) * slope : yb - (h - low) * slope;
    const double tl = t_at(c, l, yl), th = t_at(c, h, yh);
    cell(column, (h - l) * slope, column < 0 ? 0.0 : 0.5 * (l + h) - column, min(tl, th), max(tl, th), true);
  }
}

// The weights w of a piece from t = a to t = b. side: 1 if the silhouette lies to the right of it, -1 if to the left.
SR_HD void weigh_piece(double a, double b, double side, double w[2]) {
  const double w1 = 0.5 * (b * b - a * a);
  w[0] = side * (b - a - w1), w[1] = side * w1;
}

// The derivatives (dC / dx, dC / dy) of the coverage of a pixel with respect to the pixel coordinates of an end, if the
// weight of that end is 1.
SR_HD Vec2 end_slope(const Contour& c) {
  const double dx = c.x[1] - c.x[0], dy = c.y[1] - c.y[0];
  return {-(dy - kShear * dx), dx};  // through the shear, y changes with x too
}

}  // namespace softras::SOFTRAS_ISA
