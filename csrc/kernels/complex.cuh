// complex64 as kernels compute with it.
#pragma once

namespace blackwell_compat {

struct alignas(8) c64 {
  float x, y;
  c64() = default;
  __device__ constexpr explicit c64(float real, float imag = 0) : x(real), y(imag) {}
};

__device__ __forceinline__ c64 operator+(c64 a, c64 b) { return c64(a.x + b.x, a.y + b.y); }
__device__ __forceinline__ c64 operator-(c64 a, c64 b) { return c64(a.x - b.x, a.y - b.y); }
__device__ __forceinline__ c64 operator-(c64 a) { return c64(-a.x, -a.y); }
__device__ __forceinline__ c64 operator*(c64 a, c64 b) { return c64(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x); }
// Smith's: no square overflows
__device__ __forceinline__ c64 operator/(c64 a, c64 b) {
  if (fabsf(b.x) >= fabsf(b.y)) {
    if (b.x == 0 && b.y == 0) return c64(a.x / fabsf(b.x), a.y / fabsf(b.y));
    const float ratio = b.y / b.x, scale = 1 / (b.x + b.y * ratio);
    return c64((a.x + a.y * ratio) * scale, (a.y - a.x * ratio) * scale);
  }
  const float ratio = b.x / b.y, scale = 1 / (b.x * ratio + b.y);
  return c64((a.x * ratio + a.y) * scale, (a.y * ratio - a.x) * scale);
}
__device__ __forceinline__ bool operator==(c64 a, c64 b) { return a.x == b.x && a.y == b.y; }
__device__ __forceinline__ bool operator!=(c64 a, c64 b) { return !(a == b); }

__device__ __forceinline__ c64 exp(c64 a) {
  const float size = expf(a.x);
  return a.y == 0 ? c64(size, a.y) : c64(size * cosf(a.y), size * sinf(a.y));
}
__device__ __forceinline__ c64 log(c64 a) { return c64(logf(hypotf(a.x, a.y)), atan2f(a.y, a.x)); }
__device__ __forceinline__ c64 sin(c64 a) { return c64(sinf(a.x) * coshf(a.y), cosf(a.x) * sinhf(a.y)); }
__device__ __forceinline__ c64 cos(c64 a) { return c64(cosf(a.x) * coshf(a.y), -sinf(a.x) * sinhf(a.y)); }
__device__ __forceinline__ c64 sqrt(c64 a) {
  if (a.x == 0 && a.y == 0) return c64(0, a.y);
  const float half = sqrtf((fabsf(a.x) + hypotf(a.x, a.y)) * 0.5f), other = fabsf(a.y) / (2 * half);
  return a.x >= 0 ? c64(half, copysignf(other, a.y)) : c64(other, copysignf(half, a.y));
}
__device__ __forceinline__ c64 power(c64 a, c64 b) {
  if (b == c64(0)) return c64(1);
  if (a == c64(0)) return c64(0);
  return b == c64(1) ? a : b == c64(2) ? a * a : exp(b * log(a));
}

}  // namespace blackwell_compat
