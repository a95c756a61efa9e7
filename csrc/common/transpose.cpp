// Transposition in square tiles held in vector registers (GCC vectors: AVX on x86, NEON elsewhere).
#include "common/transpose.h"

#include <algorithm>

#include "common/clones.h"

namespace blackwell_compat {
namespace {

typedef uint32_t Vec __attribute__((vector_size(32)));
typedef uint64_t Vec64 __attribute__((vector_size(32)));
// The same anywhere in memory
typedef uint32_t Slot __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint64_t Slot64 __attribute__((vector_size(32), aligned(8), may_alias));
typedef uint16_t Vec16 __attribute__((vector_size(16)));
typedef uint16_t Slot16 __attribute__((vector_size(16), aligned(2), may_alias));

#define PICK(a, b, ...) __builtin_shuffle(a, b, Vec{__VA_ARGS__})

inline __attribute__((always_inline)) void tile(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
  Vec r[8], s[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = *reinterpret_cast<const Slot*>(from + i * from_stride);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    s[i] = PICK(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    s[i + 1] = PICK(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 4) {
    r[i] = PICK(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 1] = PICK(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    r[i + 2] = PICK(s[i + 1], s[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 3] = PICK(s[i + 1], s[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    s[i] = PICK(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    s[i + 4] = PICK(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) *reinterpret_cast<Slot*>(to + i * to_stride) = s[i];
}

#define PICK64(a, b, ...) __builtin_shuffle(a, b, Vec64{__VA_ARGS__})

inline __attribute__((always_inline)) void tile(const uint64_t* from, int64_t from_stride, uint64_t* to, int64_t to_stride) {
  Vec64 r[4], s[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) r[i] = *reinterpret_cast<const Slot64*>(from + i * from_stride);
#pragma GCC unroll 4
  for (int i = 0; i < 4; i += 2) {
    s[i] = PICK64(r[i], r[i + 1], 0, 4, 2, 6);
    s[i + 1] = PICK64(r[i], r[i + 1], 1, 5, 3, 7);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 2; ++i) {
    r[i] = PICK64(s[i], s[i + 2], 0, 1, 4, 5);
    r[i + 2] = PICK64(s[i], s[i + 2], 2, 3, 6, 7);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) *reinterpret_cast<Slot64*>(to + i * to_stride) = r[i];
}

#define PICK16(a, b, ...) __builtin_shuffle(a, b, Vec16{__VA_ARGS__})

inline __attribute__((always_inline)) void tile(const uint16_t* from, int64_t from_stride, uint16_t* to, int64_t to_stride) {
  Vec16 r[8], s[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = *reinterpret_cast<const Slot16*>(from + i * from_stride);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    s[i] = PICK16(r[i], r[i + 1], 0, 8, 1, 9, 2, 10, 3, 11);
    s[i + 1] = PICK16(r[i], r[i + 1], 4, 12, 5, 13, 6, 14, 7, 15);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 4) {
    r[i] = PICK16(s[i], s[i + 2], 0, 1, 8, 9, 2, 3, 10, 11);
    r[i + 1] = PICK16(s[i], s[i + 2], 4, 5, 12, 13, 6, 7, 14, 15);
    r[i + 2] = PICK16(s[i + 1], s[i + 3], 0, 1, 8, 9, 2, 3, 10, 11);
    r[i + 3] = PICK16(s[i + 1], s[i + 3], 4, 5, 12, 13, 6, 7, 14, 15);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    s[2 * i] = PICK16(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    s[2 * i + 1] = PICK16(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) *reinterpret_cast<Slot16*>(to + i * to_stride) = s[i];
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

// Strips of 64 columns: as many lines of `to` stay in the first-level cache while the rows go by. The next rows lie in other
// pages, where the processor does not look ahead, so they are asked for.
template <int64_t kSide, typename Element>
inline __attribute__((always_inline)) void by_tiles(const Element* from, int64_t from_stride, int64_t rows, int64_t columns,
                                                    Element* to, int64_t to_stride) {
  constexpr int64_t kLine = 64 / sizeof(Element);
  const int64_t whole_rows = rows / kSide * kSide, whole_columns = columns / kSide * kSide;
  for (int64_t c0 = 0; c0 < whole_columns; c0 += 64) {
    for (int64_t r = 0; r < whole_rows; r += kSide) {
      const Element* row = from + r * from_stride;
      for (int64_t c = c0; c < std::min(c0 + 64, whole_columns); c += kSide) {
        if (c % kLine == 0 && r + 2 * kSide <= whole_rows) {
          for (int64_t ahead = kSide; ahead < 2 * kSide; ++ahead) __builtin_prefetch(row + ahead * from_stride + c);
        }
        tile(row + c, from_stride, to + c * to_stride + r, to_stride);
      }
    }
  }
  scalar(from + whole_columns, from_stride, rows, columns - whole_columns, to + whole_columns * to_stride, to_stride);
  scalar(from + whole_rows * from_stride, from_stride, rows - whole_rows, whole_columns, to + whole_rows, to_stride);
}

}  // namespace

template <>
BC_CLONES void transpose<uint64_t>(const uint64_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint64_t* to,
                                   int64_t to_stride) {
  by_tiles<4>(from, from_stride, rows, columns, to, to_stride);
}

template <>
BC_CLONES void transpose<uint32_t>(const uint32_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint32_t* to,
                                   int64_t to_stride) {
  by_tiles<8>(from, from_stride, rows, columns, to, to_stride);
}

template <>
BC_CLONES void transpose<uint16_t>(const uint16_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint16_t* to,
                                   int64_t to_stride) {
  by_tiles<8>(from, from_stride, rows, columns, to, to_stride);
}

}  // namespace blackwell_compat
