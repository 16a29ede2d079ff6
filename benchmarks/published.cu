// SPDX-License-Identifier: MIT
// The baseline of gpu_check.py: the silhouettes of Liu et al. (ICCV 2019, eq. 1 to 3) as their paper and code compute
// them, written down plainly: a thread for each pixel that visits every face of its view, forward and backward, and
// adds the gradients of a face's corners atomically. Faces are given projected: x and y of three corners in NDC.
namespace published {

constexpr float kCutoff = 9.2102404f;  // in d^2 / sigma

struct Call {
  int views, faces, height, width;
  double sigma;  // squared NDC
  const float* corners;  // (N,F,3,2)
  float* alpha;          // (N,H,W)
  const float* grad_alpha;
  float* grad_corners;  // zeros
};

struct Pixel {
  int view;
  float x, y;
};

__device__ inline bool pixel_of(const Call& call, long long i, Pixel& p) {
  if (i >= (long long)call.views * call.height * call.width) return false;
  const int size = min(call.height, call.width);
  p.x = (2 * (int)(i % call.width) + 1 - call.width) / (float)size;
  p.y = (2 * (int)(i / call.width % call.height) + 1 - call.height) / (float)size;
  p.view = (int)(i / call.width / call.height);
  return true;
}

// Where the face counts: +-d^2 / sigma, its nearest edge and the position of the nearest point on it.
__device__ inline bool fragment(const float* c, const Pixel& p, float sigma, float& x, int& edge, float& t) {
  const float reach = sqrtf(kCutoff * sigma);
  if (p.x < fminf(c[0], fminf(c[2], c[4])) - reach || p.x > fmaxf(c[0], fmaxf(c[2], c[4])) + reach ||
      p.y < fminf(c[1], fminf(c[3], c[5])) - reach || p.y > fmaxf(c[1], fmaxf(c[3], c[5])) + reach)
    return false;
  const float area = (c[2] - c[0]) * (c[5] - c[1]) - (c[3] - c[1]) * (c[4] - c[0]);
  float nearest = 1e30f;
  bool inside = area != 0;
  for (int k = 0; k < 3; k++) {
    const int j = (k + 1) % 3;
    const float ex = c[2 * j] - c[2 * k], ey = c[2 * j + 1] - c[2 * k + 1], ox = p.x - c[2 * k], oy = p.y - c[2 * k + 1];
    const float length2 = fmaxf(ex * ex + ey * ey, 1e-20f), along = fminf(fmaxf((ox * ex + oy * ey) / length2, 0.f), 1.f);
    const float dx = ox - along * ex, dy = oy - along * ey, d2 = dx * dx + dy * dy;
    if (d2 < nearest) nearest = d2, edge = k, t = along;
    inside = inside && (ex * oy - ey * ox) * area > 0;
  }
  x = (inside ? nearest : -nearest) / sigma;
  return x > -kCutoff;
}

}  // namespace published

extern "C" __global__ void published_forward(const published::Call call) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  published::Pixel p;
  if (!pixel_of(call, i, p)) return;
  const float* c = call.corners + 6LL * p.view * call.faces;
  float left = 1, x, t;
  int edge;
  for (int f = 0; f < call.faces; f++, c += 6)
    if (fragment(c, p, (float)call.sigma, x, edge, t)) left *= 1 - 1 / (1 + expf(-x));
  call.alpha[i] = 1 - left;
}

extern "C" __global__ void published_backward(const published::Call call) {
  const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  published::Pixel p;
  if (!pixel_of(call, i, p)) return;
  const float *c = call.corners + 6LL * p.view * call.faces, sigma = (float)call.sigma;
  const float left = 1 - call.alpha[i], upstream = call.grad_alpha[i];
  float* g = call.grad_corners + 6LL * p.view * call.faces;
  float x, t;
  int edge;
  for (int f = 0; f < call.faces; f++, c += 6, g += 6) {
    if (!fragment(c, p, sigma, x, edge, t)) continue;
    const int a = 2 * edge, b = 2 * ((edge + 1) % 3);
    const float D = 1 / (1 + expf(-x)), weight = upstream * left * D * (x < 0 ? -1 : 1) / sigma;  // dL/d(d^2)
    const float dx = p.x - ((1 - t) * c[a] + t * c[b]), dy = p.y - ((1 - t) * c[a + 1] + t * c[b + 1]);
    atomicAdd(g + a, -2 * weight * dx * (1 - t)), atomicAdd(g + a + 1, -2 * weight * dy * (1 - t));
    atomicAdd(g + b, -2 * weight * dx * t), atomicAdd(g + b + 1, -2 * weight * dy * t);
  }
}
