// Transposition in 8 x 8 or 4 x 4 tiles held in vector registers (GCC vectors: AVX on x86, NEON elsewhere).
#include "common/transpose.h"

#include <algorithm>
#include <cstring>

namespace blackwell_compat {
namespace {

typedef uint32_t Vec __attribute__((vector_size(32)));

#define PICK(a, b, ...) __builtin_shuffle(a, b, Vec{__VA_ARGS__})

inline __attribute__((always_inline)) void tile(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
  Vec r[8], s[8];
  for (int i = 0; i < 8; ++i) std::memcpy(&r[i], from + i * from_stride, sizeof(Vec));
  for (int i = 0; i < 8; i += 2) {
    s[i] = PICK(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    s[i + 1] = PICK(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = PICK(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 1] = PICK(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    r[i + 2] = PICK(s[i + 1], s[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 3] = PICK(s[i + 1], s[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i = 0; i < 4; ++i) {
    s[i] = PICK(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    s[i + 4] = PICK(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int i = 0; i < 8; ++i) std::memcpy(to + i * to_stride, &s[i], sizeof(Vec));
}

typedef uint64_t Vec64 __attribute__((vector_size(32)));

#define PICK64(a, b, ...) __builtin_shuffle(a, b, Vec64{__VA_ARGS__})

inline __attribute__((always_inline)) void tile(const uint64_t* from, int64_t from_stride, uint64_t* to, int64_t to_stride) {
  Vec64 r[4], s[4];
  for (int i = 0; i < 4; ++i) std::memcpy(&r[i], from + i * from_stride, sizeof(Vec64));
  for (int i = 0; i < 4; i += 2) {
    s[i] = PICK64(r[i], r[i + 1], 0, 4, 2, 6);
    s[i + 1] = PICK64(r[i], r[i + 1], 1, 5, 3, 7);
  }
  for (int i = 0; i < 2; ++i) {
    r[i] = PICK64(s[i], s[i + 2], 0, 1, 4, 5);
    r[i + 2] = PICK64(s[i], s[i + 2], 2, 3, 6, 7);
  }
  for (int i = 0; i < 4; ++i) std::memcpy(to + i * to_stride, &r[i], sizeof(Vec64));
}

template <typename Element>
void scalar(const Element* from, int64_t from_stride, int64_t rows, int64_t columns, Element* to, int64_t to_stride) {
  constexpr int64_t kTile = 32;
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
      for (int64_t c = c0; c < std::min(c0 + kTile, columns); ++c) {
        for (int64_t r = r0; r < std::min(r0 + kTile, rows); ++r) to[c * to_stride + r] = from[r * from_stride + c];
      }
    }
  }
}

}  // namespace

template <>
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
void transpose<uint32_t>(const uint32_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint32_t* to,
                         int64_t to_stride) {
  const int64_t whole_rows = rows / 8 * 8, whole_columns = columns / 8 * 8;
  // Strips of 64 columns: 64 lines of `to` stay in the first-level cache while the rows go by
  for (int64_t c0 = 0; c0 < whole_columns; c0 += 64) {
    for (int64_t r = 0; r < whole_rows; r += 8) {
      for (int64_t c = c0; c < std::min(c0 + 64, whole_columns); c += 8) {
        tile(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
      }
    }
  }
  scalar(from + whole_columns, from_stride, rows, columns - whole_columns, to + whole_columns * to_stride, to_stride);
  scalar(from + whole_rows * from_stride, from_stride, rows - whole_rows, whole_columns, to + whole_rows, to_stride);
}

template <>
#if defined(__x86_64__)
__attribute__((target_clones("avx2", "default")))
#endif
void transpose<uint64_t>(const uint64_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint64_t* to,
                         int64_t to_stride) {
  const int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (int64_t c0 = 0; c0 < whole_columns; c0 += 64) {
    for (int64_t r = 0; r < whole_rows; r += 4) {
      const uint64_t* row = from + r * from_stride;
      for (int64_t c = c0; c < std::min(c0 + 64, whole_columns); c += 4) {
        // The next rows lie in other pages, where the processor does not look ahead
        if (c % 8 == 0 && r + 8 <= whole_rows) {
          for (int64_t ahead = 4; ahead < 8; ++ahead) __builtin_prefetch(row + ahead * from_stride + c);
        }
        tile(row + c, from_stride, to + c * to_stride + r, to_stride);
      }
    }
  }
  scalar(from + whole_columns, from_stride, rows, columns - whole_columns, to + whole_columns * to_stride, to_stride);
  scalar(from + whole_rows * from_stride, from_stride, rows - whole_rows, whole_columns, to + whole_rows, to_stride);
}

template <>
void transpose<uint16_t>(const uint16_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint16_t* to,
                         int64_t to_stride) {
  scalar(from, from_stride, rows, columns, to, to_stride);
}

}  // namespace blackwell_compat
