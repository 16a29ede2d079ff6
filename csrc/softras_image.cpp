// SPDX-License-Identifier: MIT
// Images on the CPU: the colours of faces blended by depth, and alpha by any distance, distribution and T-conorm. In the
// forward pass each thread draws bands of rows, one face after another from front to back; in the backward pass each thread
// takes faces, and each face gathers its gradient from its pixels. A face that is hidden everywhere changes alpha alone, as
// it would a silhouette. A pixel keeps the least depth, the sum of weights and the weighted sums of its channels; there is
// no list of fragments.
// Like softras_cpu.cpp, the file is compiled once for every instruction set, and any number of threads gives the same bits.
#include "fragments.h"
#include "gradients.h"
#include "hidden.h"

namespace softras::SOFTRAS_ISA {
namespace {

// What the members of a team share to render one view.
template <class T>
struct Workspace : FaceGradients<T> {
  Buffer<T> image;      // the planes that image_planes.h describes
  Tiles<T> tiles;
  FaceOrder order;      // of the faces in the backward pass
  Buffer<double> fold;  // for modes that are not plain, as ImagePlanes::clear() describes it
};

template <class T, bool plain>
struct Images : Gradients<T> {
  using C = Cells<T>;
  using F = Fragments<T, plain>;
  using Scene<T>::call, Scene<T>::status, Scene<T>::blur, Scene<T>::stride;
  using Scene<T>::fail, Scene<T>::corners, Scene<T>::set_up, Scene<T>::make_polygon;

  const softras_image_call& of;  // the image that is asked for
  const F fragments;
  Buffer<T> corner_gradients;    // (N,F,3,width): the gradient with respect to the attributes of each corner

  explicit Images(const softras_image_call& c) : Gradients<T>(c.scene), of(c), fragments(c) {
    if constexpr (!plain) {
      blur = blur_of_modes<T>(c.distance, c.squared != 0, call.sigma, c.radius, call.height, call.width);
      this->growth = c.distance == kBarycentric ? 2 * c.radius : 0;
    }
    stride = fragments.row * fragments.planes;
  }

  bool backward() const { return call.backward != 0; }

  void run() {
    if (backward() && !(this->reserve_views() && corner_gradients.reserve((int64_t)call.views * call.faces * 3 * of.width)))
      return fail(SOFTRAS_OUT_OF_MEMORY);
    check_rows();
    if (!backward()) check_values();
    if (status) return;
    Scene<T>::template run<Workspace<T>>(
        2 * this->size(), [&](int view, Workspace<T>& w, Team& team, int rank) { return render(view, w, team, rank); },
        [&](int rank, int size) {
          if (!backward()) return;
          this->sum_views(share(call.vertices, rank, size));
          sum_corners(share(of.rows, rank, size));
        });
  }

  // Writes the gradients of a share of the rows of attributes, each summed in the order of views and faces.
  void sum_corners(Share s) const {
    const int64_t width = of.width, most = of.shared_attributes ? 1 : call.views;
    T* out = (T*)of.grad_attributes;
    for (int64_t view = 0; view < most; view++)
      zero(out + (view * of.rows + s.begin) * width, (s.end - s.begin) * width);
    for (int64_t view = 0; view < call.views; view++) {
      T* of_view = out + (of.shared_attributes ? 0 : view * of.rows * width);
      const T* corner = corner_gradients.data + view * call.faces * 3 * width;
      for (int64_t i = 0; i < 3 * (int64_t)call.faces; i++, corner += width) {
        const int64_t row = attribute_row(i);
        if (row < s.begin || row >= s.end) continue;
        for (int64_t c = 0; c < width; c++) of_view[row * width + c] += corner[c];
      }
    }
  }

  // Entry i of attribute_faces: the row of attributes of corner i % 3 of face i / 3.
  int64_t attribute_row(int64_t i) const {
    return call.wide_indices ? ((const int64_t*)of.attribute_faces)[i] : ((const int32_t*)of.attribute_faces)[i];
  }

  // Refuses faces that name rows of attributes that do not exist, and inputs that are not finite.
  void check_rows() {
    bool there = true;
    for (int64_t i = 0; i < 3 * (int64_t)call.faces; i++) there &= (uint64_t)attribute_row(i) < (uint64_t)of.rows;
    const bool shared = of.attribute_faces == call.face_indices && of.rows == call.vertices;
    if (!there) fail(shared ? SOFTRAS_BAD_FACE_INDEX : SOFTRAS_BAD_ATTRIBUTE_INDEX);
  }
  void check_values() {
    const int64_t views = call.views;
    check(of.attributes, (of.shared_attributes ? 1 : views) * of.rows * of.width, SOFTRAS_BAD_ATTRIBUTES);
    check(of.texels, (of.shared_texels ? 1 : views) * of.texel_count * of.texture_channels, SOFTRAS_BAD_TEXELS);
    check(of.background, views * of.channels, SOFTRAS_BAD_BACKGROUND);
  }
  void check(const void* values, int64_t count, int code) {
    bool finite = true;
    for (int64_t i = 0; i < count; i++) finite &= __builtin_isfinite(((const T*)values)[i]);
    if (!finite) fail(code);
  }

  // Renders one view, or this member's share of it. The members meet after each phase. False: something failed.
  bool render(int view, Workspace<T>& w, Team& team, int rank) {
    const Camera cam = this->camera(view);
    const int64_t face_chunks = chunks_of(call.faces), vertex_chunks = chunks_of(call.vertices);
    if (rank == 0) {
      this->check_camera(cam);
      if (!w.projected.reserve(call.vertices) || !w.rows.reserve(call.faces) || !w.image.reserve(stride * call.height) ||
          (!plain && !w.fold.reserve(2 * fragments.row * call.height)) || !w.tiles.reserve(call.height, call.width) ||
          (backward() && !(w.reserve(call.faces, max(face_chunks, vertex_chunks)) && w.order.reserve(call.faces))))
        fail(SOFTRAS_OUT_OF_MEMORY);
      this->begin(w), w.next_chunk = 0;
      w.clips = true;
    }
    if (team.barrier(status)) return false;
    this->transform(view, cam, w, share(call.vertices, rank, team.size));
    if (!backward())
      return this->draw_bands(view, cam, w, team, rank, [&](Share band, bool skip) { draw(view, cam, w, band, skip); });
    if (team.barrier(status)) return false;
    const Rect affected = this->affected(w, this->share_rows(rank, team.size));
    if (rank == 0) w.order.sort(call.faces, 0, FaceOrder::kKeys - 1, [&](int64_t f) { return block_of(w, f); });
    fragments.load_gradients(view, affected, w.image.data, w.fold.data);
    w.tiles.all(affected, [&](int x, int y, T& depth) {
      return depth = fragments.farthest_wanting(w.image.data, x, y), true;
    });
    if (team.barrier(status)) return false;
    for (int64_t chunk; (chunk = take(w.next_chunk)) < face_chunks;) faces_backward(view, cam, w, chunk);
    if (team.barrier(status)) return false;
    this->vertices_backward(view, cam, w, share(vertex_chunks, rank, team.size));
    if (team.barrier(status)) return false;
    if (rank == 0) this->camera_backward(view, w, face_chunks, vertex_chunks);
    return !team.barrier(status);
  }

  // Finds what the colours of a face in a view depend on.
  void prepare_face(int view, const Camera& cam, const Blend& blend, Workspace<T>& w, const Face& face, int64_t f, ShownFace<T>& out) {
    Vec3 point[3], h[3];
    if (face.kind == kClipped) corners(view, cam, face, point);
    for (int k = 0; k < 3; k++) {
      const Projected& p = w.projected[face.vertex[k]];
      h[k] = face.kind == kClipped ? homogeneous_pixel(cam, point[k]) : homogeneous_pixel(cam, p.pixel, p.z);
      out.depth[k] = T(p.z);
      const int64_t row = attribute_row(3 * f + k);
      out.corner[k] = (const T*)of.attributes + (row + (of.shared_attributes ? 0 : (int64_t)view * of.rows)) * of.width;
    }
    out.planes = planes_of(h);
    out.face = f, out.view = view, out.outline = &face.outline;
    out.orthographic = cam.orthographic;
    out.blend = blend;
  }
  Blend blend_of_view(int view, const Camera& cam) const {
    return blend_of(of.gamma, of.eps, cam.near, of.far_planes[view]);
  }

  // A depth such that whatever is nearer hides this face. There is none for a face that reaches behind the far plane, where
  // its alpha ends within the face.
  static T hidden_behind(const Blend& blend, const Workspace<T>& w, const Face& face) {
    const double a = w.projected[face.vertex[0]].z, b = w.projected[face.vertex[1]].z, c = w.projected[face.vertex[2]].z;
    if (max(a, max(b, c)) > blend.far) return -T(__builtin_inf());
    const double nearest = max(min(a, min(b, c)), blend.near);
    return T(nearest * (1 - 1e-6) - (kHidden<T> + 1) / blend.scale);  // with a margin for the rounding of depths
  }

  // ------------------------------------------------------------------------------------------ forward

  // Draws all faces into one band of rows, from front to back with plain modes, in their given order with others. skip: as
  // draw_bands() gives it.
  void draw(int view, const Camera& cam, Workspace<T>& w, Share band, bool skip) {
    const Rect affected = this->affected(w, band);
    const Blend blend = blend_of_view(view, cam);
    typename F::Scratch scratch;
    FaceOrder order;
    if (!fragments.reserve(scratch) || !order.reserve(call.faces)) return fail(SOFTRAS_OUT_OF_MEMORY);
    w.tiles.forget(affected);
    fragments.clear(view, blend, affected, w.image.data, w.fold.data);
    order.sort(call.faces, w.nearest, w.farthest, [&](int64_t f) {
      if (skip && !this->in_band(w, f, band)) return -1;
      return plain ? order_of_depth(nearest_corner(w, f) - cam.near) : 0;
    });
    Face face;
    Polygon p;
    ShownFace<T> shown;
    for (int64_t i = 0; i < order.count; i++) {
      const int64_t f = order.faces[i];
      if (!set_up(view, cam, w, f, face) || !make_polygon(face, p)) continue;
      const Rect rect = this->rows_of(face.rect, band);
      if (plain && w.tiles.hide(rect, hidden_behind(blend, w, face), [&](int x, int y, T limit) {
            return fragments.farthest_drawn(w.image.data, x, y, limit);
          })) {
        this->walk(face, p, band, [&](const typename C::Cell& cell) {
          p.corners == 3 ? C::template multiply<3>(cell, w.image.data) : C::template multiply<4>(cell, w.image.data);
        });
        continue;
      }
      w.tiles.forget(rect);
      prepare_face(view, cam, blend, w, face, f, shown);
      this->walk(face, p, band, [&](const typename C::Cell& cell) {
        p.corners == 3 ? fragments.template draw<3>(cell, shown, w.image.data, w.fold.data, scratch)
                       : fragments.template draw<4>(cell, shown, w.image.data, w.fold.data, scratch);
      });
    }
    fragments.finish(view, blend, band, affected, w.image.data, w.fold.data);
  }

  // The depth of a face's nearest vertex.
  double nearest_corner(const Workspace<T>& w, int64_t f) const {
    double z = __builtin_inf();
    for (int k = 0; k < 3; k++) {
      const int64_t v = this->index(3 * f + k);
      if (v >= 0 && v < call.vertices) z = min(z, w.projected[v].z);  // set_up() refuses others
    }
    return z;
  }

  // ------------------------------------------------------------------------------------------ backward

  // The part of the image, of 32 x 32 parts, in which the first vertex of a face lies. The backward pass takes the faces
  // part by part, so that successive faces read neighbouring pixels, which the processor's caches still hold.
  int32_t block_of(const Workspace<T>& w, int64_t f) const {
    const int64_t v = this->index(3 * f);
    if (v < 0 || v >= call.vertices) return 0;
    const Vec2 q = w.projected[v].pixel;
    const int x = (int)max(0.0, min(q.x * 32 / call.width, 31.0)), y = (int)max(0.0, min(q.y * 32 / call.height, 31.0));
    return 32 * y + x;
  }

  // Finds the gradients of one chunk of faces.
  void faces_backward(int view, const Camera& cam, Workspace<T>& w, int64_t chunk) {
    double* gk = w.partial.data + chunk * kPartial;
    for (int i = 0; i < 6; i++) gk[i] = 0;
    typename F::Scratch scratch;
    typename F::FaceSums sums;
    if (!fragments.reserve(scratch)) return fail(SOFTRAS_OUT_OF_MEMORY);
    const Blend blend = blend_of_view(view, cam);
    Face face;
    Polygon p;
    ShownFace<T> shown;
    const int64_t end = min((chunk + 1) * kChunk, int64_t(call.faces));
    for (int64_t i = chunk * kChunk; i < end; i++) {
      const int64_t f = w.order.faces[i];
      FaceGradient<T>& out = w.face_gradients[f];
      out.kind = kUnseen;
      const int64_t entry = (int64_t)view * call.faces + f;
      T* attributes = corner_gradients.data + entry * 3 * of.width;
      memset(attributes, 0, 3 * of.width * sizeof(T));
      if (of.grad_levels) ((T*)of.grad_levels)[entry] = 0;
      if (!set_up(view, cam, w, f, face) || !make_polygon(face, p)) continue;
      if (plain && w.tiles.hide(face.rect, hidden_behind(blend, w, face))) {
        Vec2 g[4] = {};
        this->walk(face, p, this->all_rows(), [&](const typename C::Cell& cell) {
          p.corners == 3 ? C::template accumulate<3>(cell, w.image.data, g) : C::template accumulate<4>(cell, w.image.data, g);
        });
        this->outline_backward(view, cam, face, f, g, w, gk);
        continue;
      }
      prepare_face(view, cam, blend, w, face, f, shown);
      sums = {};
      this->walk(face, p, this->all_rows(), [&](const typename C::Cell& cell) {
        p.corners == 3 ? fragments.template gather<3>(cell, shown, w.image.data, w.fold.data, scratch, sums, attributes)
                       : fragments.template gather<4>(cell, shown, w.image.data, w.fold.data, scratch, sums, attributes);
      });
      if (of.grad_levels) ((T*)of.grad_levels)[entry] = T(sums.level);
      out.kind = kClipped;
      corners_backward(view, cam, face, shown, sums, gk, w.clipped[f]);
    }
  }

  // Takes the gradient of a face, with respect to its outline, planes and depths, to its vertices in camera space.
  void corners_backward(int view, const Camera& cam, const Face& face, const ShownFace<T>& shown,
                        const typename F::FaceSums& sums, double* gk, ClippedGradient& out) const {
    out = {};
    Vec3 point[3];
    corners(view, cam, face, point);
    const Outline& o = face.outline;
    if (face.kind == kWhole) {
      for (int k = 0; k < 3; k++) out.corner[k] = project_backward(cam, point[k], sums.outline[k], gk);
    } else {
      for (int k = 0; k < o.corners; k++)
        corner_backward(point, o.corner[k], project_backward(cam, o.point[k], sums.outline[k], gk), out.corner);
    }
    for (int k = 0; k < 3; k++) {
      const Vec3 g = homogeneous_pixel_backward(cam, point[k], planes_backward(shown.planes, sums.planes, k), gk);
      out.corner[k].x += g.x, out.corner[k].y += g.y, out.corner[k].z += g.z + sums.depth[k];
    }
  }
};

template <class T>
int images(const softras_image_call* call) {
  if (call->plain) {
    Images<T, true> renderer(*call);
    renderer.run();
    return renderer.status;
  }
  Images<T, false> renderer(*call);
  renderer.run();
  return renderer.status;
}

}  // namespace
}  // namespace softras::SOFTRAS_ISA

extern "C" int SR_ENTRY(softras_images_float32)(const softras_image_call* call) {
  return softras::SOFTRAS_ISA::images<float>(call);
}
extern "C" int SR_ENTRY(softras_images_float64)(const softras_image_call* call) {
  return softras::SOFTRAS_ISA::images<double>(call);
}
