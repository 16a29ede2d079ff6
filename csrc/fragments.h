// SPDX-License-Identifier: MIT
// What the fragments of a face do to the pixels of a cell, with SIMD over the pixels of a row: they add to alpha and to
// the image, and in the backward pass gather what the pixels want of the face. See fragment.h for the maths.
//
// Each row of the image is `planes` rows of padded pixels. Forward: the product of 1 + 2^x, the least depth, the sum of
// weights, the least depth and the number of the faces that cover the centre, then the channels' weighted sums. Backward:
// d alpha / d x / D (plain) or dL/dalpha, the least depth, 1 / the sum of weights, the image's part in its gradient,
// then the gradients of the channels.
#pragma once
#include "cells.h"
#include "fragment.h"
#include "softras.h"
#include "softras_modes.h"
#include "softras_texture.h"
#include "scene.h"

namespace softras::SOFTRAS_ISA {

template <class T, bool plain>
struct Fragments {
  using C = Cells<T>;
  using V = typename C::V;
  using I = typename C::I;
  static constexpr int lanes = C::lanes;
  enum Distance { kEuclidean, kBarycentric, kHard };
  enum Plane { kProduct, kDepth, kWeight, kNearest, kFace, kChannels };
  enum BackwardPlane { kAlpha, kLeast, kInverse, kMean, kGradients };

  const softras_image_call& call;
  const int64_t row, planes;  // pixels of a padded row; rows of a row of the image
  Texture texture = {};

  explicit Fragments(const softras_image_call& c) : call(c), row(c.scene.width + lanes), planes(kChannels + c.channels) {
    if (c.texture == 2) texture = texture_of(c.texture_height, c.texture_width, c.levels, c.wrap);
  }

  // A face in one view.
  struct Look {
    Planes planes;
    Blend blend;
    T depth[3];
    const T* corner[3];  // attributes
    int64_t face;
    int view;
    bool orthographic;
    const Outline* outline;
  };

  // The gradient of a face, but for its attributes.
  struct FaceSums {
    Vec2 outline[4];
    Vec3 planes[3];
    double depth[3], level;
  };

  // What a thread keeps for the attributes of one run, and for their gradients.
  struct Scratch {
    Buffer<V> values;
    V *attribute, *gradient, *colour, *sums;
  };
  bool reserve(Scratch& s) const {
    if (!s.values.reserve(5 * call.width + call.channels)) return false;
    s.attribute = s.values.data, s.gradient = s.attribute + call.width, s.colour = s.gradient + call.width;
    s.sums = s.colour + call.channels;  // 3 width
    return true;
  }

  static V exp2_below(V x) { return exp2_vector<T>(max(x, V(kLeastExponent<T>))); }  // x <= 0
  static V select(I which, V a) { return (V)((I)a & which); }
  static V ramp() { return Simd<T>::ramp(); }
  static T sum_of(V v) {
    T out[4];
    sum_lanes<T>(v, v, v, v, out);
    return out[0];
  }

  // ------------------------------------------------------------------------------------------ images

  const T* gradient_of(int view) const { return (const T*)call.grad_image + (int64_t)view * call.channels * size(); }
  int64_t size() const { return (int64_t)call.scene.height * call.scene.width; }
  const T* background(int view) const { return (const T*)call.background + (int64_t)view * call.channels; }

  void clear(int view, const Blend& blend, Share rows, T* image, double* fold) const {
    for (int64_t y = rows.begin; y < rows.end; y++) {
      T* line = image + y * planes * row;
      fill(line + kProduct * row, T(1)), fill(line + kDepth * row, T(blend.background)), fill(line + kWeight * row, T(1));
      if (call.nearest) fill(line + kNearest * row, T(__builtin_inf()));
      if (call.nearest) memset(line + kFace * row, 0xff, row * sizeof(T));
      for (int c = 0; c < call.channels; c++) fill(line + (kChannels + c) * row, background(view)[c]);
      if constexpr (!plain) {
        double *state = fold + 2 * y * row, *largest = state + row;
        for (int64_t x = 0; x < row; x++) state[x] = 0, largest[x] = -1;
      }
    }
  }
  void fill(T* line, T value) const {
    for (int64_t x = 0; x < row; x++) line[x] = value;
  }

  void finish(int view, Share rows, const T* image, const double* fold) const {
    const int64_t width = call.scene.width, start = (int64_t)view * size();
    for (int64_t y = rows.begin; y < rows.end; y++) {
      const T* line = image + y * planes * row;
      const int64_t out = start + y * width;
      T *alpha = (T*)call.scene.alpha + out, *depth = (T*)call.depth + out, *weight = (T*)call.weight + out;
      for (int64_t x = 0; x < width; x++) depth[x] = line[kDepth * row + x], weight[x] = line[kWeight * row + x];
      if constexpr (plain) {
        T* transmittance = (T*)call.scene.transmittance + out;
        for (int64_t x = 0; x < width; x++) transmittance[x] = T(1) / line[x], alpha[x] = T(1) - transmittance[x];
      } else {
        double* state = (double*)call.scene.transmittance + out;
        const double *folded = fold + 2 * y * row, *largest = folded + row;
        for (int64_t x = 0; x < width; x++) {
          state[x] = conorm_is_largest(call.conorm) ? largest[x] : folded[x];
          alpha[x] = conorm_opacity<T>(call.conorm, call.power, folded[x]).alpha;
        }
      }
      for (int c = 0; c < call.channels; c++) {
        T* channel = (T*)call.image + ((int64_t)view * call.channels + c) * size() + y * width;
        const T* sum = line + (kChannels + c) * row;
        for (int64_t x = 0; x < width; x++) channel[x] = sum[x] / weight[x];
      }
      if (call.nearest) {
        for (int64_t x = 0; x < width; x++) {
          decltype(I()[0] + 0) number;
          memcpy(&number, line + kFace * row + x, sizeof(T));
          call.nearest[out + x] = (int32_t)number;
        }
      }
    }
  }

  // The gradients of a view's pixels, and where the padding is, none.
  void load_gradients(int view, Share rows, T* image, double* fold) const {
    const int64_t width = call.scene.width, start = (int64_t)view * size();
    for (int64_t y = rows.begin; y < rows.end; y++) {
      T* line = image + y * planes * row;
      const int64_t in = start + y * width;
      const T* alpha = (const T*)call.scene.grad_alpha + in;
      for (int plane = 0; plane < kGradients + call.channels; plane++)
        for (int64_t x = width; x < row; x++) line[plane * row + x] = T(0);
      for (int64_t x = 0; x < width; x++) {
        line[kLeast * row + x] = ((const T*)call.depth)[in + x];
        line[kInverse * row + x] = T(1) / ((const T*)call.weight)[in + x];
        line[kMean * row + x] = T(0);
        if constexpr (plain) {
          const T left = ((const T*)call.scene.transmittance)[in + x];
          line[x] = left * kSaturated<T> > T(1) ? T(kLn2) * left * alpha[x] : T(0);
        } else {
          line[x] = alpha[x];
          fold[2 * y * row + x] = ((const double*)call.scene.transmittance)[in + x];
        }
      }
      for (int c = 0; c < call.channels; c++) {
        const T* g = gradient_of(view) + c * size() + y * width;
        const T* value = (const T*)call.image + ((int64_t)view * call.channels + c) * size() + y * width;
        T *mean = line + kMean * row, *gradient = line + (kGradients + c) * row;
        for (int64_t x = 0; x < width; x++) gradient[x] = g[x], mean[x] += g[x] * value[x];
      }
    }
  }

  // ------------------------------------------------------------------------------------------ one cell

  // g_k at the pixels of a run: they are linear.
  struct LocalPlanes {
    T x[3], y[3], one[3];
    LocalPlanes(const Planes& p, double mx, double my) {
      for (int k = 0; k < 3; k++) {
        x[k] = T(p.row[k].x), y[k] = T(p.row[k].y);
        one[k] = T(p.row[k].x * mx + p.row[k].y * my + p.row[k].z);
      }
    }
  };

  // The point of the face that is seen at the pixels of a run.
  struct Point {
    V positive[3], inverse, z;  // max(g, 0), 1 / their sum, the depth
    I shown;                    // some of them are positive
  };
  static Point point_of(const LocalPlanes& p, const Look& look, const typename C::Run& run) {
    Point out;
    const V x = ramp() + run.x;
#pragma clang loop unroll(full)
    for (int k = 0; k < 3; k++) out.positive[k] = max(p.x[k] * x + (p.y[k] * run.y + p.one[k]), V(T(0)));
    const V total = out.positive[0] + out.positive[1] + out.positive[2];
    out.shown = total > T(0);
    out.inverse = T(1) / (out.shown ? total : V(T(1)));
    const V z = out.positive[0] * look.depth[0] + out.positive[1] * look.depth[1] + out.positive[2] * look.depth[2];
    out.z = max(out.shown ? z * out.inverse : V(T(0)), V(T(look.blend.near)));
    return out;
  }

  // The signed square of the distance in units of the blur, and whether the centre is covered: see Cells::multiply.
  template <int n>
  static V squared_of(const typename C::template LaneEdges<n>& edge, const typename C::Run& run) {
    const T* start = (const T*)&run.start;
    V squared, across;
#pragma clang loop unroll(full)
    for (int k = 0; k < n; k++) {
      const V a = edge.across[k] + start[k], s = squared_distance(a, edge.position[k] + start[4 + k], edge.half[k]);
      squared = k == 0 ? s : smaller(s, squared);
      across = k == 0 ? a : (V)((I)a | (I)across);
    }
    return flip_sign<T>(squared, across);
  }
  static I inside_of(V signed_squared) { return (I)signed_squared >= 0; }

  // The signed distance in units of the blur, of one pixel, where the modes are not plain.
  T distance_of(const Look& look, const typename C::Cell& cell, const typename C::Run& run, int lane, T squared) const {
    if (call.distance == kHard) return squared;
    if (call.distance == kBarycentric) {
      const double m = barycentric_of(look, cell, run, lane).m;
      return T((call.squared ? m * (m < 0 ? -m : m) : m) / call.scene.sigma);
    }
    if (call.squared) return squared;
    const T root = sqrt(fabs(squared));
    return squared < 0 ? -root : root;
  }
  static Vec2 centre_of(const typename C::Cell& cell, const typename C::Run& run, int lane) {
    return {cell.x + run.x + lane, cell.y + run.y};
  }
  static Barycentric barycentric_of(const Look& look, const typename C::Cell& cell, const typename C::Run& run, int lane) {
    const Outline& o = *look.outline;
    const double sign = doubled_area(o.pixel, o.corners) < 0 ? -1 : 1;
    return barycentric_distance(o.pixel, o.corners, sign, centre_of(cell, run, lane));
  }
  Coverage<T> coverage_at(T u, bool inside) const {
    if (call.distance == kHard) return {inside ? T(1) : T(0), inside ? T(0) : T(1), T(0)};
    return coverage<T>(call.distribution, call.shape, call.shift, u);
  }
  bool counts(T u, bool inside) const { return call.distance == kHard ? inside : u > T(call.cutoff); }

  // Where a pixel of the image has its S, and a row farther the number of its first largest face.
  int64_t state_of(int64_t pixel) const { return pixel / (planes * row) * 2 * row + pixel % (planes * row); }

  // ------------------------------------------------------------------------------------------ forward

  template <int n>
  void draw(const typename C::Cell& cell, const Look& look, T* image, double* fold, Scratch& scratch) const {
    const typename C::template LaneEdges<n> edge(cell.edges);
    const LocalPlanes local(look.planes, cell.x, cell.y);
    Point point[C::kRuns];
    V x[C::kRuns], covered[C::kRuns];
    for (int i = 0; i < cell.count; i++) x[i] = squared_of<n>(edge, cell.runs[i]);
    for (int i = 0; i < cell.count; i++) point[i] = point_of(local, look, cell.runs[i]);
    for (int i = 0; i < cell.count; i++) {
      const I within = point[i].z <= T(look.blend.far);
      T* pixel = image + cell.runs[i].pixel;
      if constexpr (plain) {
        const V e = select(within, C::exponential(x[i])), before = load<T>(pixel);
        store(pixel, smaller(before + before * e, V(kSaturated<T>)));
        covered[i] = e / (e + T(1));
      } else {
        covered[i] = fold_run(cell, look, cell.runs[i], x[i], within, fold);
      }
      if (call.nearest) cover(look, point[i].z, inside_of(x[i]) & within, pixel);
    }
    for (int i = 0; i < cell.count; i++) blend(look, point[i], covered[i], image + cell.runs[i].pixel, scratch);
  }

  // D of a run's pixels, zero where the face does not count, each added to its pixel's S.
  V fold_run(const typename C::Cell& cell, const Look& look, const typename C::Run& run, V squared, I within, double* fold) const {
    V covered = V(T(0));
    double* state = fold + state_of(run.pixel);
    for (int l = 0; l < lanes; l++) {
      const bool inside = inside_of(squared)[l];
      const T u = distance_of(look, cell, run, l, squared[l]);
      if (!within[l] || !counts(u, inside)) continue;
      const Coverage<T> face = coverage_at(u, inside);
      covered[l] = face.covered;
      const double term = conorm_term(call.conorm, call.power, face);
      if (term > state[l]) state[row + l] = (double)look.face;
      state[l] = conorm_fold(call.conorm, state[l], term);
    }
    return covered;
  }

  void cover(const Look& look, V z, I covers, T* pixel) const {
    const V before = load<T>(pixel + kNearest * row);
    const I nearer = covers & (z < before);
    store(pixel + kNearest * row, nearer ? z : before);
    const I face = (I)load<T>(pixel + kFace * row);
    store(pixel + kFace * row, (V)(nearer ? I(look.face) : face));
  }

  void blend(const Look& look, const Point& at, V covered, T* pixel, Scratch& scratch) const {
    const I shown = at.shown & (covered > T(0));
    const V least = load<T>(pixel + kDepth * row), weight = load<T>(pixel + kWeight * row);
    const V z = shown ? at.z : least, apart = (z - least) * T(look.blend.scale);
    const V less = exp2_below(-magnitude(apart));
    const I nearer = apart < T(0);
    const V keep = nearer ? less : V(T(1)), share = select(shown, nearer ? covered : covered * less);
    if (!any_lane<T>(nearer | (share > weight * kNegligible<T>))) return;
    store(pixel + kDepth * row, nearer ? z : least);
    store(pixel + kWeight * row, weight * keep + share);
    const V one = share * at.inverse;
    T* sum = pixel + kChannels * row;
    if (call.texture == 0) {
      const V p0 = one * at.positive[0], p1 = one * at.positive[1], p2 = one * at.positive[2];
      const T *a = look.corner[0], *b = look.corner[1], *c = look.corner[2];
      for (int channel = 0; channel < call.channels; channel++, sum += row)
        store(sum, load<T>(sum) * keep + (p0 * a[channel] + p1 * b[channel] + p2 * c[channel]));
      return;
    }
    interpolate(look, at, scratch);
    shade(look, at, share > T(0), scratch, [](int, const Taps<T>&, const T*) {});
    for (int channel = 0; channel < call.channels; channel++, sum += row)
      store(sum, load<T>(sum) * keep + share * scratch.colour[channel]);
  }

  // ------------------------------------------------------------------------------------------ textures

  void interpolate(const Look& look, const Point& at, Scratch& s) const {
    for (int c = 0; c < call.width; c++)
      s.attribute[c] = (at.positive[0] * look.corner[0][c] + at.positive[1] * look.corner[1][c] +
                        at.positive[2] * look.corner[2][c]) * at.inverse;
  }
  int first_light() const { return call.texture == 2 ? 2 : 0; }
  int first_other() const { return first_light() + (call.lit ? call.texture_channels : 0); }
  const T* texels_of(const Look& look) const {
    const T* texels = (const T*)call.texels + (call.shared_texels ? 0 : look.view * call.texel_count * call.texture_channels);
    return texels + first_texel(look) * call.texture_channels;
  }
  int64_t first_texel(const Look& look) const {
    return call.texture == 1 ? look.face * call.resolution * call.resolution : 0;
  }
  Taps<T> taps_of(const Look& look, const Point& at, const Scratch& s, int lane) const {
    if (call.texture == 1) {
      Taps<T> taps = {};
      taps.count = 1, taps.weight[0] = 1;
      taps.index[0] = surface_texel(at.positive[0][lane] * at.inverse[lane], at.positive[1][lane] * at.inverse[lane], call.resolution);
      return taps;
    }
    const T base = ((const T*)call.face_levels)[(int64_t)look.view * call.scene.faces + look.face];
    const T level = look.orthographic ? base : pixel_level(base, at.z[lane]);
    return texture_taps(texture, s.attribute[0][lane], s.attribute[1][lane], level);
  }

  // The colours of a run's pixels. Calls each(lane, taps, texels) where they are asked for.
  template <class Each>
  void shade(const Look& look, const Point& at, I asked, Scratch& s, Each each) const {
    const int channels = call.texture_channels;
    for (int c = 0; c < channels; c++) s.colour[c] = V(T(0));
    const T* texels = texels_of(look);
    for (int l = 0; l < lanes; l++) {
      if (!asked[l]) continue;
      const Taps<T> taps = taps_of(look, at, s, l);
      for (int c = 0; c < channels; c++) {
        T sum = 0;
        for (int k = 0; k < taps.count; k++) sum += taps.weight[k] * texels[(int64_t)taps.index[k] * channels + c];
        s.colour[c][l] = sum;
      }
      each(l, taps, texels);
    }
    if (call.lit)
      for (int c = 0; c < channels; c++) s.colour[c] *= s.attribute[first_light() + c];
    for (int c = channels; c < call.channels; c++) s.colour[c] = s.attribute[first_other() + c - channels];
  }

  // ------------------------------------------------------------------------------------------ backward

  template <int n>
  void gather(const typename C::Cell& cell, const Look& look, const T* image, const double* fold, Scratch& s, FaceSums& out,
              T* attributes) const {
    const typename C::template OutlineEdges<n> edge(cell.edges);
    const LocalPlanes local(look.planes, cell.x, cell.y);
    V plane[3], plane_x[3], plane_y[3], depth[3], move_x[4], move_y[4], level = V(T(0));
    for (int k = 0; k < 3; k++) plane[k] = plane_x[k] = plane_y[k] = depth[k] = V(T(0));
    for (int k = 0; k < 4; k++) move_x[k] = move_y[k] = V(T(0));
    for (int c = 0; c < 3 * call.width; c++) s.sums[c] = V(T(0));
    bool shares = false;
    for (int i = 0; i < cell.count; i++) {
      const typename C::Run& run = cell.runs[i];
      const T* pixel = image + run.pixel;
      V nx, ny, across, past, share_of[n];
      const V x = C::search(edge, run, [&](int k, I closer, V a, V beyond, V t) {
        nx = closer ? edge.nx[k] : nx, ny = closer ? edge.ny[k] : ny;
        across = closer ? a : across, past = closer ? beyond : past;
#pragma clang loop unroll(full)
        for (int j = 0; j < n; j++) {
          const V mine = j == k ? T(1) - t : j == (k + 1) % n ? t : V(T(0));
          share_of[j] = closer ? mine : share_of[j];
        }
      });
      const Point at = point_of(local, look, run);
      const I within = at.z <= T(look.blend.far);
      V covered, by_log, by_squared;  // D; d log D / d(x or u); dL/d(x or u) through alpha
      T u[lanes];
      if constexpr (plain) {
        const V e = select(within, C::exponential(x)), clear = T(1) / (e + T(1));
        covered = e * clear, by_log = T(kLn2) * clear, by_squared = load<T>(pixel + kAlpha * row) * covered;
      } else {
        alpha_of(cell, look, run, x, within, load<T>(pixel + kAlpha * row), fold, covered, by_log, by_squared, u);
      }
      const V apart = (load<T>(pixel + kLeast * row) - at.z) * T(look.blend.scale);
      const V near_share = exp2_below(min(apart, V(T(0)))) * covered * load<T>(pixel + kInverse * row);
      const V share = select(at.shown & (near_share > kNegligible<T>), near_share);
      const bool seen = any_lane<T>(share != T(0));
      if (!seen && !any_lane<T>(by_squared != T(0))) continue;
      V towards = V(T(0));  // dL / d log of the weight
      if (seen) {
        shares = true;
        V by_depth = V(T(0)), by_corner[3], total;
        colour_backward(look, at, share, pixel, s, level, by_depth, total);
#pragma clang loop unroll(full)
        for (int k = 0; k < 3; k++) {
          by_corner[k] = V(T(0));
          for (int c = 0; c < call.width; c++) by_corner[k] += s.gradient[c] * look.corner[k][c];
        }
        towards = total - share * load<T>(pixel + kMean * row);
        by_depth -= towards * T(look.blend.scale * kLn2);
        by_depth = select(at.z > T(look.blend.near), by_depth);
        V mean = V(T(0));
#pragma clang loop unroll(full)
        for (int k = 0; k < 3; k++) {
          const V b = at.positive[k] * at.inverse;
          by_corner[k] += by_depth * look.depth[k];
          mean += b * by_corner[k];
          depth[k] += by_depth * b;
          for (int c = 0; c < call.width; c++) s.sums[k * call.width + c] += b * s.gradient[c];
        }
        const V lane_x = ramp() + run.x;
#pragma clang loop unroll(full)
        for (int k = 0; k < 3; k++) {
          const V g = select(at.positive[k] > T(0), (by_corner[k] - mean) * at.inverse);
          plane[k] += g, plane_x[k] += g * lane_x, plane_y[k] += g * run.y;
        }
      }
      const V pull = by_squared + select(covered > T(0), towards * by_log);
      if constexpr (!plain) {
        if (call.distance != kEuclidean) {
          if (call.distance == kBarycentric) barycentric_pull(cell, look, run, pull, out.outline);
          continue;
        }
      }
      const V g = flip_sign<T>(plain || call.squared ? pull : rooted(pull, u), x);
      const Vector2<V> move = nearest_point_gradient(g, across, past, nx, ny);
#pragma clang loop unroll(full)
      for (int k = 0; k < n; k++) move_x[k] += move.x * share_of[k], move_y[k] += move.y * share_of[k];
    }
    T sum_x[4], sum_y[4];
    sum_lanes<T>(move_x[0], move_x[1], move_x[2], move_x[3], sum_x);
    sum_lanes<T>(move_y[0], move_y[1], move_y[2], move_y[3], sum_y);
    for (int k = 0; k < n; k++) out.outline[k].x += sum_x[k], out.outline[k].y += sum_y[k];
    if (shares) add(cell, plane, plane_x, plane_y, depth, level, s, out, attributes);
  }

  void add(const typename C::Cell& cell, const V* plane, const V* plane_x, const V* plane_y, const V* depth, V level,
           const Scratch& s, FaceSums& out, T* attributes) const {
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
    for (; c + 4 <= 3 * call.width; c += 4) {
      sum_lanes<T>(s.sums[c], s.sums[c + 1], s.sums[c + 2], s.sums[c + 3], sum);
      for (int k = 0; k < 4; k++) attributes[c + k] += sum[k];
    }
    for (; c < 3 * call.width; c++) attributes[c] += sum_of(s.sums[c]);
  }

  // dL/d(attributes at the point) in s.gradient; total: the sum over the channels of share * gradient * colour.
  void colour_backward(const Look& look, const Point& at, V share, const T* pixel, Scratch& s, V& level, V& by_depth,
                       V& total) const {
    const T* g = pixel + kGradients * row;
    total = V(T(0));
    if (call.texture == 0) {
      for (int c = 0; c < call.width; c++) {
        s.gradient[c] = share * load<T>(g + c * row);
        const V value = at.positive[0] * look.corner[0][c] + at.positive[1] * look.corner[1][c] +
                        at.positive[2] * look.corner[2][c];
        total += s.gradient[c] * value;
      }
      total *= at.inverse;
      return;
    }
    const int channels = call.texture_channels;
    interpolate(look, at, s);
    for (int c = 0; c < first_light(); c++) s.gradient[c] = V(T(0));
    int64_t* texel_gradients = call.grad_texels;
    if (texel_gradients)
      texel_gradients += ((call.shared_texels ? 0 : look.view * call.texel_count) + first_texel(look)) * channels;
    shade(look, at, share > T(0), s, [&](int l, const Taps<T>& taps, const T* texels) {
      T pull[8] = {};
      for (int c = 0; c < channels; c++) {
        T wanted = share[l] * g[c * row + l];
        if (call.lit) s.gradient[first_light() + c][l] = wanted * s.colour[c][l], wanted *= s.attribute[first_light() + c][l];
        for (int k = 0; k < taps.count; k++) {
          pull[k] += wanted * texels[(int64_t)taps.index[k] * channels + c];
          if (texel_gradients)
            __atomic_fetch_add(texel_gradients + (int64_t)taps.index[k] * channels + c,
                               (int64_t)(double(wanted * taps.weight[k]) / call.texel_unit), __ATOMIC_RELAXED);
        }
      }
      if (call.texture != 2) return;
      const TextureGradient<T> moved = texture_backward(texture, taps, pull);
      s.gradient[0][l] = moved.u, s.gradient[1][l] = moved.v;
      level[l] += moved.level;
      if (!look.orthographic) by_depth[l] += moved.level * pixel_level_slope(at.z[l]);
    });
    if (call.lit)
      for (int c = 0; c < channels; c++)
        s.gradient[first_light() + c] = select(share > T(0), s.gradient[first_light() + c]);
    for (int c = channels; c < call.channels; c++) s.gradient[first_other() + c - channels] = share * load<T>(g + c * row);
    for (int c = 0; c < call.channels; c++) total += share * load<T>(g + c * row) * s.colour[c];
  }

  // The same as in draw(), with the derivatives, where the modes are not plain. u: the signed distances.
  void alpha_of(const typename C::Cell& cell, const Look& look, const typename C::Run& run, V squared, I within, V grad_alpha,
                const double* fold, V& covered, V& by_log, V& by_alpha, T* u) const {
    covered = by_log = by_alpha = V(T(0));
    const double* state = fold + state_of(run.pixel);
    for (int l = 0; l < lanes; l++) {
      const bool inside = inside_of(squared)[l];
      u[l] = distance_of(look, cell, run, l, squared[l]);
      if (!within[l] || !counts(u[l], inside)) continue;
      const Coverage<T> face = coverage_at(u[l], inside);
      covered[l] = face.covered;
      if (face.density == 0) continue;
      by_log[l] = face.covered > 0 ? face.density / face.covered : T(0);
      if (grad_alpha[l] == 0) continue;
      if (conorm_is_largest(call.conorm)) {
        if ((Conorm)call.conorm == Conorm::max && state[l] == look.face) by_alpha[l] = grad_alpha[l] * face.density;
        continue;
      }
      const Opacity<T> pixel = conorm_opacity<T>(call.conorm, call.power, state[l]);
      by_alpha[l] = grad_alpha[l] * conorm_factor(call.conorm, call.power, face, pixel) * face.density;
    }
  }

  // dL/d(squared) from dL/du, u = sqrt(squared); none on the outline itself.
  static V rooted(V pull, const T* u) {
    for (int l = 0; l < lanes; l++) pull[l] = u[l] != 0 ? pull[l] / (2 * fabs(u[l])) : T(0);
    return pull;
  }

  void barycentric_pull(const typename C::Cell& cell, const Look& look, const typename C::Run& run, V pull, Vec2* outline) const {
    for (int l = 0; l < lanes; l++) {
      if (pull[l] == 0) continue;
      const Barycentric at = barycentric_of(look, cell, run, l);
      const double slope = call.squared ? 2 * (at.m < 0 ? -at.m : at.m) : 1;
      barycentric_backward(look.outline->pixel, at, centre_of(cell, run, l), pull[l] * slope / call.scene.sigma, outline);
    }
  }
};

}  // namespace softras::SOFTRAS_ISA
