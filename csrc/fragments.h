// SPDX-License-Identifier: MIT
// The fragments of a face at the pixels of a cell, with SIMD over the pixels of a row. In the forward pass they change the
// pixels' alpha and image; in the backward pass they gather the gradient of the face from the pixels. fragment.h has the
// formulas, image_planes.h what the pixels hold.
//
// plain: the modes are SoftRas's own, see softras_image_call.
#pragma once
#include "image_planes.h"
#include "softras_modes.h"

namespace softras::SOFTRAS_ISA {

template <class T, bool plain>
struct Fragments : ImagePlanes<T, plain> {
  using Base = ImagePlanes<T, plain>;
  using C = Cells<T>;
  using V = typename C::V;
  using I = typename C::I;
  static constexpr int lanes = C::lanes;

  // Template argument `channels` of some functions: 3 for three attributes and no texture, kAny for any number of
  // attributes and no texture, kTextured for images with a texture.
  static constexpr int kAny = 0, kTextured = -1;
  using typename Appearance<T>::Point, typename Appearance<T>::Scratch;
  using Appearance<T>::call;
  using Base::row, Base::planes, Base::covering, Base::face;
  using Base::kDepth, Base::kWeight, Base::kChannels, Base::kAlpha, Base::kLeast, Base::kMean, Base::kGradients;
  using ShownFace = softras::SOFTRAS_ISA::ShownFace<T>;

  using Base::Base;

  // The gradient with respect to a face, without its attributes: with respect to the corners of its outline in pixels, to
  // the rows of its Planes, to the depths of its corners and to its mip level.
  struct FaceSums {
    Vec2 outline[4];
    Vec3 planes[3];
    double depth[3], level;
  };

  // 2^x for x <= 0.
  static V exp2_below(V x) { return exp2_vector<T>(max(x, V(kLeastExponent<T>))); }
  // a in the lanes of `which`, zero in the others.
  static V select(I which, V a) { return (V)((I)a & which); }
  static V ramp() { return Simd<T>::ramp(); }
  // The sum of the lanes.
  static T sum_of(V v) {
    T out[4];
    sum_lanes<T>(v, v, v, v, out);
    return out[0];
  }

  // ------------------------------------------------------------------------------------------ one cell

  // The linear functions g_k of Planes about the middle (mx, my) of a cell.
  struct LocalPlanes {
    T x[3], y[3], one[3];
    LocalPlanes(const Planes& p, double mx, double my) {
      for (int k = 0; k < 3; k++) {
        x[k] = T(p.row[k].x), y[k] = T(p.row[k].y);
        one[k] = T(p.row[k].x * mx + p.row[k].y * my + p.row[k].z);
      }
    }
  };

  // The points of the face that are seen at the pixels of a run.
  static Point point_of(const LocalPlanes& p, const ShownFace& shown, const typename C::Run& run) {
    Point out;
    const V x = ramp() + run.x;
#pragma clang loop unroll(full)
    for (int k = 0; k < 3; k++) out.positive[k] = max(p.x[k] * x + (p.y[k] * run.y + p.one[k]), V(T(0)));
    const V total = out.positive[0] + out.positive[1] + out.positive[2];
    const V z = out.positive[0] * shown.depth[0] + out.positive[1] * shown.depth[1] + out.positive[2] * shown.depth[2];
    out.shown = total > T(0);
    out.inverse = T(1) / max(total, V(kTiny<T>));
    out.z = max(z * out.inverse, V(T(shown.blend.near)));
    return out;
  }

  // The pixels whose centres the face covers, from what Cells::signed_square() gives.
  static I inside_of(V signed_squared) { return (I)signed_squared >= 0; }

  // The signed distance of one pixel from the face, in units of the blur, where the modes are not plain. squared: what
  // Cells::signed_square() gives for that pixel.
  T distance_of(const ShownFace& shown, const typename C::Cell& cell, const typename C::Run& run, int lane, T squared) const {
    if (call.distance == kHard) return squared;
    if (call.distance == kBarycentric) {
      const double m = barycentric_of(shown, cell, run, lane).m;
      return T((call.squared ? m * (m < 0 ? -m : m) : m) / call.scene.sigma);
    }
    return call.squared ? squared : signed_root(squared);
  }
  // The centre of the pixel of one lane, in pixel coordinates.
  static Vec2 centre_of(const typename C::Cell& cell, const typename C::Run& run, int lane) {
    return {cell.x + run.x + lane, cell.y + run.y};
  }
  static Barycentric barycentric_of(const ShownFace& shown, const typename C::Cell& cell, const typename C::Run& run, int lane) {
    const Outline& o = *shown.outline;
    const double sign = doubled_area(o.pixel, o.corners) < 0 ? -1 : 1;
    return barycentric_distance(o.pixel, o.corners, sign, centre_of(cell, run, lane));
  }
  // The coverage at signed distance u, and whether the face counts there. inside: whether the pixel's centre is covered.
  Coverage<T> coverage_at(T u, bool inside) const {
    if (call.distance == kHard) return hard_coverage<T>(inside);
    return coverage<T>(call.distribution, call.shape, call.shift, u);
  }
  bool counts(T u, bool inside) const { return call.distance == kHard ? inside : u > T(call.cutoff); }

  // The index in `fold` of the S of a pixel, from the pixel's index in the image. The number of the first face with the
  // largest coverage is one row further.
  int64_t state_of(int64_t pixel) const { return pixel / (planes * row) * 2 * row + pixel % (planes * row); }

  // ------------------------------------------------------------------------------------------ forward

  // Draws the fragments of a face with n corners into a cell.
  template <int n>
  void draw(const typename C::Cell& cell, const ShownFace& shown, T* image, double* fold, Scratch& scratch) const {
    if (call.texture) return draw_as<n, kTextured>(cell, shown, image, fold, scratch);
    if (plain && call.channels == 3) return draw_as<n, 3>(cell, shown, image, fold, scratch);
    draw_as<n, kAny>(cell, shown, image, fold, scratch);
  }

  template <int n, int channels>
  void draw_as(const typename C::Cell& cell, const ShownFace& shown, T* image, double* fold, Scratch& scratch) const {
    const typename C::template LaneEdges<n> edge(cell.edges);
    const LocalPlanes local(shown.planes, cell.x, cell.y);
    const T far = T(shown.blend.far);
    Point point[C::kRuns];
    V covered[C::kRuns];
    for (int i = 0; i < cell.count; i++) point[i] = point_of(local, shown, cell.runs[i]);
    for (int i = 0; i < cell.count; i++) {
      const typename C::Run& run = cell.runs[i];
      T* pixel = image + run.pixel;
      const V x = C::signed_square(edge, run);
      const I within = point[i].z <= far;
      if constexpr (plain) {
        const V e = select(within, C::exponential(x)), before = load<T>(pixel);
        store(pixel, smaller(before + before * e, V(kSaturated<T>)));
        covered[i] = select(point[i].shown, e / (e + T(1)));
      } else {
        covered[i] = select(point[i].shown, fold_run(cell, shown, run, x, within, fold));
      }
      if (call.nearest) cover(shown, point[i].z, inside_of(x) & within, pixel);
    }
    for (int i = 0; i < cell.count; i++) blend<channels>(shown, point[i], covered[i], image + cell.runs[i].pixel, scratch);
  }

  // Joins the face's coverage of each pixel of a run to the pixel's S. Returns the coverages, zero where the face does not
  // count.
  V fold_run(const typename C::Cell& cell, const ShownFace& shown, const typename C::Run& run, V squared, I within, double* fold) const {
    V covered = V(T(0));
    double* state = fold + state_of(run.pixel);
    for (int l = 0; l < lanes; l++) {
      const bool inside = inside_of(squared)[l];
      const T u = distance_of(shown, cell, run, l, squared[l]);
      if (!within[l] || !counts(u, inside)) continue;
      const Coverage<T> face = coverage_at(u, inside);
      covered[l] = face.covered;
      const double term = conorm_term(call.conorm, call.power, face);
      if (term > state[l]) state[row + l] = (double)shown.face;
      state[l] = conorm_fold(call.conorm, state[l], term);
    }
    return covered;
  }

  // Keeps the nearest face that covers the pixels' centres; of faces at the same depth, the one with the least number.
  void cover(const ShownFace& shown, V z, I covers, T* pixel) const {
    const V before = load<T>(pixel + covering);
    const I number = (I)load<T>(pixel + face), nearer = covers & ((z < before) | ((z == before) & (number > I(shown.face))));
    store(pixel + covering, nearer ? z : before);
    store(pixel + face, (V)(nearer ? I(shown.face) : number));
  }

  // Adds the fragments of a run to the weights and channels of its pixels. covered: the coverage, zero where the face does
  // not count.
  template <int channels>
  void blend(const ShownFace& shown, const Point& at, V covered, T* pixel, Scratch& scratch) const {
    const I counts = covered > T(0);
    const V least = load<T>(pixel + kDepth * row), weight = load<T>(pixel + kWeight * row);
    const V apart = (at.z - least) * T(shown.blend.scale), powers = magnitude(apart);
    const V less = plain ? select(powers < kHidden<T>, exp2_vector<T>(-powers)) : exp2_below(-powers);
    const I nearer = counts & (apart < T(0));
    const V keep = nearer ? less : V(T(1)), share = nearer ? covered : covered * less;
    if (!any_lane<T>(nearer | (share > weight * kNegligible<T>))) return;
    store(pixel + kDepth * row, nearer ? at.z : least);
    store(pixel + kWeight * row, weight * keep + share);
    T* sum = pixel + kChannels * row;
    if constexpr (channels == kTextured) {
      this->shade(shown, at, scratch, [](int, const Taps<V>&, const V*) {});
      for (int c = 0; c < call.channels; c++, sum += row) store(sum, load<T>(sum) * keep + share * scratch.colour[c]);
    } else {
      const V one = share * at.inverse;
      const V p0 = one * at.positive[0], p1 = one * at.positive[1], p2 = one * at.positive[2];
      const T *a0 = shown.corner[0], *a1 = shown.corner[1], *a2 = shown.corner[2];
      const int count = channels ? channels : call.channels;
      for (int c = 0; c < count; c++, sum += row) store(sum, load<T>(sum) * keep + (p0 * a0[c] + p1 * a1[c] + p2 * a2[c]));
    }
  }

  // ------------------------------------------------------------------------------------------ backward

  // What the backward pass knows of the fragments of a run. With plain modes x, as Cells::signed_square() gives it, stands
  // for the distance; with others, the signed distance u does.
  struct Wanting {
    Point at;
    V share;       // the weight of the fragment, with the nearest depth of the pixel as z0
    V by_log;      // d log D / d distance
    V by_squared;  // dL / d distance: at first only what comes through alpha
    V x;
  };

  // Adds the gradient from the fragments of a cell to the gradient of the face, and to that of its corners' attributes.
  template <int n>
  void gather(const typename C::Cell& cell, const ShownFace& shown, const T* image, const double* fold, Scratch& s, FaceSums& out,
              T* attributes) const {
    Wanting want[C::kRuns];
    int runs[C::kRuns];
    const int count = find_wanting<n>(cell, shown, image, fold, want, runs);
    bool shares = false;
    for (int i = 0; i < count; i++) shares |= any_lane<T>(want[runs[i]].share > T(0));
    if (shares) {
      if (call.texture) colours_backward<kTextured>(cell, shown, image, want, runs, count, s, out, attributes);
      else if (plain && call.channels == 3) colours_backward<3>(cell, shown, image, want, runs, count, s, out, attributes);
      else colours_backward<kAny>(cell, shown, image, want, runs, count, s, out, attributes);
    }
    if (plain || call.distance == kEuclidean) {
      outline_backward<n>(cell, want, runs, count, out);
    } else if (call.distance == kBarycentric) {
      for (int i = 0; i < count; i++) barycentric_pull(cell, shown, cell.runs[runs[i]], want[runs[i]], out.outline);
    }
  }

  // Fills `want` for each run of a cell, and lists in `runs` those that have any gradient; returns how many these are.
  template <int n>
  int find_wanting(const typename C::Cell& cell, const ShownFace& shown, const T* image, const double* fold, Wanting* want,
                   int* runs) const {
    const typename C::template LaneEdges<n> edge(cell.edges);
    const LocalPlanes local(shown.planes, cell.x, cell.y);
    const T scale = T(shown.blend.scale), far = T(shown.blend.far);
    for (int i = 0; i < cell.count; i++) want[i].at = point_of(local, shown, cell.runs[i]);
    for (int i = 0; i < cell.count; i++) want[i].x = C::signed_square(edge, cell.runs[i]);
    int count = 0;
    for (int i = 0; i < cell.count; i++) {
      const typename C::Run& run = cell.runs[i];
      Wanting& w = want[i];
      const T* pixel = image + run.pixel;
      const V alpha = load<T>(pixel + kAlpha * row), apart = (w.at.z - load<T>(pixel + kLeast * row)) * scale;
      const I within = w.at.z <= far;
      V covered;
      if constexpr (plain) {
        const V e = select(within, C::exponential(w.x)), clear = T(1) / (e + T(1));
        covered = e * clear, w.by_squared = alpha * covered;
        w.by_log = select((e > T(0)) & (w.x < V(kMostExponent<T>)), T(kLn2) * clear);
      } else {
        alpha_of(cell, shown, run, w.x, within, alpha, fold, covered, w.by_log, w.by_squared);
      }
      const V share = exp2_below(-positive_part(apart)) * covered;
      w.share = select(w.at.shown & (share > kNothing<T>), share);
      runs[count] = i;
      count += any_lane<T>((w.share > T(0)) | (w.by_squared != T(0)));
    }
    return count;
  }

  // Takes the gradient of the image to the face's attributes, planes and depths, and, through the weights of the fragments,
  // to by_squared.
  template <int channels>
  void colours_backward(const typename C::Cell& cell, const ShownFace& shown, const T* image, Wanting* want, const int* runs,
                        int count, Scratch& s, FaceSums& out, T* attributes) const {
    const int width = channels > 0 ? channels : call.width;
    V local[9 * (channels > 0 ? 1 : 0) + 1];
    V* sums = channels > 0 ? local : s.sums;  // (3,width)
    for (int c = 0; c < 3 * width; c++) sums[c] = V(T(0));
    V plane[3], plane_x[3], plane_y[3], depth[3], level = V(T(0));
    for (int k = 0; k < 3; k++) plane[k] = plane_x[k] = plane_y[k] = depth[k] = V(T(0));
    for (int i = 0; i < count; i++) {
      Wanting& w = want[runs[i]];
      const typename C::Run& run = cell.runs[runs[i]];
      if (!any_lane<T>(w.share > T(0))) continue;
      const T *pixel = image + run.pixel, *wanted = pixel + kGradients * row;
      V b[3], by_corner[3], by_depth = V(T(0)), total = V(T(0));
#pragma clang loop unroll(full)
      for (int k = 0; k < 3; k++) b[k] = w.at.positive[k] * w.at.inverse, by_corner[k] = V(T(0));
      if constexpr (channels == kTextured) total = this->backward(shown, w.at, w.share, wanted, row, s, level, by_depth);
      for (int c = 0; c < width; c++) {
        const V g = channels == kTextured ? s.gradient[c] : w.share * load<T>(wanted + c * row);
#pragma clang loop unroll(full)
        for (int k = 0; k < 3; k++) by_corner[k] += g * shown.corner[k][c], sums[k * width + c] += g * b[k];
      }
      V mean = b[0] * by_corner[0] + b[1] * by_corner[1] + b[2] * by_corner[2];
      if constexpr (channels != kTextured) total = mean;
      const V towards = total - w.share * load<T>(pixel + kMean * row);  // dL / d log(weight)
      w.by_squared += towards * w.by_log;
      by_depth = select(w.at.z > T(shown.blend.near), by_depth - towards * T(shown.blend.scale * kLn2));
      mean += by_depth * (b[0] * shown.depth[0] + b[1] * shown.depth[1] + b[2] * shown.depth[2]);
      const V lane_x = ramp() + run.x;
#pragma clang loop unroll(full)
      for (int k = 0; k < 3; k++) {
        depth[k] += by_depth * b[k];
        const V g = select(w.at.positive[k] > T(0), (by_corner[k] + by_depth * shown.depth[k] - mean) * w.at.inverse);
        plane[k] += g, plane_x[k] += g * lane_x, plane_y[k] += g * run.y;
      }
    }
    T one[4], x[4], y[4], z[4];
    sum_lanes<T>(plane[0], plane[1], plane[2], level, one);
    sum_lanes<T>(plane_x[0], plane_x[1], plane_x[2], level, x);
    sum_lanes<T>(plane_y[0], plane_y[1], plane_y[2], level, y);
    sum_lanes<T>(depth[0], depth[1], depth[2], level, z);
    for (int k = 0; k < 3; k++) {
      out.planes[k].x += x[k] + cell.x * one[k], out.planes[k].y += y[k] + cell.y * one[k], out.planes[k].z += one[k];
      out.depth[k] += z[k];
    }
    out.level += one[3];
    int c = 0;
    T sum[4];
    for (; c + 4 <= 3 * width; c += 4) {
      sum_lanes<T>(sums[c], sums[c + 1], sums[c + 2], sums[c + 3], sum);
      for (int k = 0; k < 4; k++) attributes[c + k] += sum[k];
    }
    for (; c < 3 * width; c++) attributes[c] += sum_of(sums[c]);
  }

  // Takes by_squared, through the distance from the outline, to the corners of the outline.
  template <int n>
  void outline_backward(const typename C::Cell& cell, const Wanting* want, const int* runs, int count, FaceSums& out) const {
    const typename C::template OutlineEdges<n> edge(cell.edges);
    typename C::template CornerSums<n> sums;
    for (int i = 0; i < count; i++) {
      const Wanting& w = want[runs[i]];
      if (!any_lane<T>(w.by_squared != T(0))) continue;
      typename C::template Nearest<n> at;
      at.find(edge, cell.runs[runs[i]]);
      sums.add(at, flip_sign<T>(plain || call.squared ? w.by_squared : rooted(w.by_squared, w.x), w.x));
    }
    sums.add_to(out.outline);
  }

  // For modes that are not plain: the coverage of each pixel of a run, d log D / du, and dL/du through alpha.
  void alpha_of(const typename C::Cell& cell, const ShownFace& shown, const typename C::Run& run, V squared, I within, V grad_alpha,
                const double* fold, V& covered, V& by_log, V& by_alpha) const {
    covered = by_log = by_alpha = V(T(0));
    const double* state = fold + state_of(run.pixel);
    for (int l = 0; l < lanes; l++) {
      const bool inside = inside_of(squared)[l];
      const T u = distance_of(shown, cell, run, l, squared[l]);
      if (!within[l] || !counts(u, inside)) continue;
      const Coverage<T> face = coverage_at(u, inside);
      covered[l] = face.covered;
      if (face.density == 0) continue;
      by_log[l] = face.covered > 0 ? face.density / face.covered : T(0);
      if (grad_alpha[l] == 0) continue;
      if (conorm_is_largest(call.conorm)) {
        if ((Conorm)call.conorm == Conorm::max && state[l] == shown.face) by_alpha[l] = grad_alpha[l] * face.density;
        continue;
      }
      const Opacity<T> pixel = conorm_opacity<T>(call.conorm, call.power, state[l]);
      by_alpha[l] = grad_alpha[l] * conorm_factor(call.conorm, call.power, face, pixel) * face.density;
    }
  }

  // dL / d(signed square) from dL / d(signed distance), zero on the outline itself.
  static V rooted(V pull, V squared) {
    for (int l = 0; l < lanes; l++) pull[l] = signed_root_backward(pull[l], signed_root(squared[l]));
    return pull;
  }

  // Takes by_squared, through the barycentric distance, to the corners of the outline.
  void barycentric_pull(const typename C::Cell& cell, const ShownFace& shown, const typename C::Run& run, const Wanting& w,
                        Vec2* outline) const {
    for (int l = 0; l < lanes; l++) {
      if (w.by_squared[l] == 0) continue;
      const Barycentric at = barycentric_of(shown, cell, run, l);
      const double slope = call.squared ? 2 * (at.m < 0 ? -at.m : at.m) : 1;
      barycentric_backward(shown.outline->pixel, at, centre_of(cell, run, l), w.by_squared[l] * slope / call.scene.sigma,
                           outline);
    }
  }
};

}  // namespace softras::SOFTRAS_ISA
