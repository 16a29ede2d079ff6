// SPDX-License-Identifier: MIT
// The mathematics of exact coverage: the area of a mesh's silhouette inside each pixel, and its derivatives.
// engine/softras/raster/coverage/reference.py is its readable definition. As softras_math.h, which it builds on, it needs
// no standard headers.
//
// Every face counts with the sign of its projected area, so that the sum of the faces' outlines is a set of closed curves
// whose winding number at a point is the number of faces there. Edges whose two faces have one sign cancel; the others are
// the contour. The silhouette's outline is where, from left to right along a line, the winding number leaves or returns
// to zero.
#pragma once
#include "softras_math.h"

namespace softras::SOFTRAS_ISA {

// Pixels that a contour is moved down for each pixel to the right, so that no edge is exactly horizontal: a sweep from top
// to bottom would not see such an edge, whose motion changes areas all the same.
constexpr double kShear = 1e-8;
constexpr double kFarthest = 1e12;  // pixels: farther points are brought nearer, so that sums of coordinates stay finite

// An end of a contour edge: vertex a, or the point a + s (b - a) where the edge from a to b crosses the near plane.
struct End {
  int a, b;
  double s;
};

// A contour edge in sheared pixels, from its upper end 0 to its lower end 1: y[0] < y[1].
struct Contour {
  double x[2], y[2];
  double slope;    // dx / dy
  double inverse;  // 1 / dy, or 1 / dx where that is longer
  End end[2];
  int wind;   // how much the winding number grows from the left of it to its right
  int steep;  // whether it is at least as high as wide
};

// The part of a contour edge in one pixel, where it is on the silhouette's outline. With D = (x1 - x0, y1 - y0), the
// pixel's coverage C changes by
//   dC = -(D.y (w0 dx0 + w1 dx1) - D.x (w0 dy0 + w1 dy1)),
// Reynolds' transport theorem for a straight edge: w0 and w1 are the integrals of 1 - t and t over the part, for
// t = 0..1 along the edge, negative where the silhouette lies to its left.
struct Piece {
  int pixel, contour;
  double w[2];
};

SR_HD double sheared(Vec2 q) { return q.y + kShear * q.x; }
SR_HD double bounded(double x) { return min(max(x, -kFarthest), kFarthest); }

SR_HD double x_at(const Contour& c, double y) { return c.x[0] + (y - c.y[0]) * c.slope; }

// t of a point on the edge, from the coordinate that tells it best.
SR_HD double t_at(const Contour& c, double x, double y) {
  return (c.steep ? y - c.y[0] : x - c.x[0]) * c.inverse;
}

// The contour edge between two projected ends, which the faces traverse `net` times from p to q. False: there is none.
SR_HD bool make_contour(Vec2 p, Vec2 q, const End& from, const End& to, int net, Contour& out) {
  const double px = bounded(p.x), qx = bounded(q.x), py = sheared({px, bounded(p.y)}), qy = sheared({qx, bounded(q.y)});
  if (net == 0 || py == qy) return false;
  const bool down = py < qy;
  out.x[0] = down ? px : qx, out.x[1] = down ? qx : px, out.y[0] = down ? py : qy, out.y[1] = down ? qy : py;
  out.end[0] = down ? from : to, out.end[1] = down ? to : from, out.wind = down ? -net : net;
  const double dx = out.x[1] - out.x[0], dy = out.y[1] - out.y[0];
  out.steep = absolute(dx) <= dy, out.slope = dx / dy, out.inverse = 1 / (out.steep ? dy : dx);
  return true;
}

// The part of a contour edge from (xa, ya) down to (xb, yb), which lies in one row of pixels, cut at the borders of the
// columns. Calls cell(column, height of the part, its mean x in the column 0..1, t at its ends); the parts left of the
// image as one with column -1.
template <class Cell>
SR_HD void cut_at_columns(const Contour& c, double ya, double yb, double xa, double xb, int width, Cell cell) {
  const double height = yb - ya, low = min(xa, xb), high = max(xa, xb);
  if (low >= width) return;
  if (high <= 0) return cell(-1, height, 0.0, 0.0, 0.0);
  const int first = low < 0 ? -1 : (int)low, last = high >= width ? width - 1 : (int)high;
  if (first >= 0 && high < first + 1) return cell(first, height, 0.5 * (xa + xb) - first, t_at(c, xa, ya), t_at(c, xb, yb));
  const double slope = height / (high - low);  // rows for each column
  for (int column = first; column <= last; column++) {
    const double l = column < 0 ? low : max((double)column, low), h = column < 0 ? 0.0 : min(column + 1.0, high);
    if (!(h > l)) continue;
    const double yl = xa < xb ? ya + (l - low) * slope : yb - (l - low) * slope;
    const double yh = xa < xb ? ya + (h - low) * slope : yb - (h - low) * slope;
    const double tl = t_at(c, l, yl), th = t_at(c, h, yh);
    cell(column, (h - l) * slope, column < 0 ? 0.0 : 0.5 * (l + h) - column, min(tl, th), max(tl, th));
  }
}

// The weights of a part from t = a to b; side: 1 where the silhouette lies to its right, -1 where to its left.
SR_HD void weigh_piece(double a, double b, double side, double w[2]) {
  const double w1 = 0.5 * (b * b - a * a);
  w[0] = side * (b - a - w1), w[1] = side * w1;
}

// How the coverage of a pixel moves with the pixel coordinates of an end of weight 1: (dC / dx, dC / dy).
SR_HD Vec2 end_slope(const Contour& c) {
  const double dx = c.x[1] - c.x[0], dy = c.y[1] - c.y[0];
  return {-(dy - kShear * dx), dx};  // y is sheared: it moves with x too
}

}  // namespace softras::SOFTRAS_ISA
