// The instructions of single generations, laid out as the PTX ISA manual has them ("Matrix Fragments for mma..."). Sums are
// float, k ascending; a card adds in an order and with roundings of its own.
#include <cstring>

#include "runner.h"

namespace emulator {
namespace {

struct MatrixRows {
  unsigned* r;
  const void* row;
};

template <bool transposed>
void load_all(void* const* lanes, unsigned) {
  for (unsigned matrix = 0; matrix < 4; ++matrix) {
    unsigned short at[8][8];
    for (unsigned i = 0; i < 8; ++i) memcpy(at[i], static_cast<MatrixRows*>(lanes[8 * matrix + i])->row, 16);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const unsigned row = lane / 4, column = lane % 4 * 2;
      const unsigned low = transposed ? at[column][row] : at[row][column];
      const unsigned high = transposed ? at[column + 1][row] : at[row][column + 1];
      static_cast<MatrixRows*>(lanes[lane])->r[matrix] = high << 16 | low;
    }
  }
}

float from_f16(unsigned bits) {
  const unsigned shifted = (bits & 0x7fffu) << 13;
  float magnitude;
  memcpy(&magnitude, &shifted, 4);
  magnitude *= 0x1p112f;
  unsigned result;
  memcpy(&result, &magnitude, 4);
  if (magnitude >= 65536) result |= 0x7f800000u;
  result |= (bits & 0x8000u) << 16;
  memcpy(&magnitude, &result, 4);
  return magnitude;
}

float from_bits(unsigned bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

template <Half type>
float half_of(const unsigned* fragment, unsigned i) {
  const unsigned bits = fragment[i / 2] >> (i % 2 * 16) & 0xffffu;
  return type == Half::kF16 ? from_f16(bits) : from_bits(bits << 16);
}

struct Operands {
  float* d;
  const unsigned *a, *b;
};

template <unsigned depth>
void multiply(const float (&a)[16][depth], const float (&b)[depth][8], void* const* lanes) {
  float d[16][8];
  const auto each = [&](auto use) {
    for (unsigned lane = 0; lane < kLanes; ++lane)
      for (unsigned i = 0; i < 4; ++i)
        use(d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2], static_cast<Operands*>(lanes[lane])->d[i]);
  };
  each([](float& here, float& there) { here = there; });
  for (unsigned row = 0; row < 16; ++row)
    for (unsigned k = 0; k < depth; ++k)
      for (unsigned column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
  each([](float& here, float& there) { there = here; });
}

template <Half type>
void multiply_16x8x16_all(void* const* lanes, unsigned) {
  float a[16][16], b[16][8];
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const auto& it = *static_cast<Operands*>(lanes[lane]);
    const unsigned group = lane / 4, in_group = lane % 4;
    for (unsigned i = 0; i < 8; ++i) a[group + i / 2 % 2 * 8][in_group * 2 + i % 2 + i / 4 * 8] = half_of<type>(it.a, i);
    for (unsigned i = 0; i < 4; ++i) b[in_group * 2 + i % 2 + i / 2 * 8][group] = half_of<type>(it.b, i);
  }
  multiply(a, b, lanes);
}

// The tensor cores ignore the low 13 bits
float from_tf32(unsigned bits) { return from_bits(bits & 0xffffe000u); }

void multiply_16x8x8_all(void* const* lanes, unsigned) {
  float a[16][8], b[8][8];
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const auto& it = *static_cast<Operands*>(lanes[lane]);
    const unsigned group = lane / 4, in_group = lane % 4;
    for (unsigned i = 0; i < 4; ++i) a[group + i % 2 * 8][in_group + i / 2 * 4] = from_tf32(it.a[i]);
    for (unsigned i = 0; i < 2; ++i) b[in_group + i * 4][group] = from_tf32(it.b[i]);
  }
  multiply(a, b, lanes);
}

// A quad pair is four lanes of the warp's first half and the four that lie 16 behind them
void multiply_8x8x4_all(void* const* lanes, unsigned) {
  for (unsigned pair = 0; pair < 4; ++pair) {
    float a[8][4], b[4][8];
    const auto lane_of = [pair](unsigned i) { return pair * 4 + i % 4 + i / 4 * 16; };
    for (unsigned i = 0; i < 8; ++i) {
      const auto& it = *static_cast<Operands*>(lanes[lane_of(i)]);
      for (unsigned k = 0; k < 4; ++k) {
        a[i][k] = half_of<Half::kF16>(it.a, k);
        b[k][i] = half_of<Half::kF16>(it.b, k);
      }
    }
    for (unsigned i = 0; i < 8; ++i) {
      const auto& it = *static_cast<Operands*>(lanes[lane_of(i)]);
      for (unsigned j = 0; j < 8; ++j) {
        const unsigned row = i % 2 + (j & 2) + i / 4 * 4, column = (j & 4) + (i & 2) + j % 2;
        for (unsigned k = 0; k < 4; ++k) it.d[j] += a[row][k] * b[k][column];
      }
    }
  }
}

void of_whole_warp(const char* name, void* brought, Work work, Where where) {
  running->meet(name, 0xffffffffu, brought, work, where);
}

bool aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

std::string at(Where where) { return printed(" in %s:%d", where.file, where.line); }

void check_shared(const char* name, const void* shared, Where where) {
  Runner& runner = *running;
  if (!runner.in_shared(shared, 16)) runner.fail(std::string(name) + ": not the block's shared memory" + at(where));
  if (!aligned(shared))
    runner.fail(printed("%s: byte %zu of shared memory is not at a multiple of 16", name, runner.shared_offset(shared)) +
                at(where));
}

}  // namespace

void load_matrices(unsigned* r, const void* row, bool transposed, Where where) {
  check_shared("load_matrices", row, where);
  check(row, 16, Access::kRead, __builtin_return_address(0));
  MatrixRows brought = {r, row};
  of_whole_warp("load_matrices", &brought, transposed ? load_all<true> : load_all<false>, where);
}

void multiply_16x8x16(Half type, float* d, const unsigned* a, const unsigned* b, Where where) {
  Operands brought = {d, a, b};
  if (type == Half::kF16)
    of_whole_warp("multiply_16x8x16 of f16", &brought, multiply_16x8x16_all<Half::kF16>, where);
  else
    of_whole_warp("multiply_16x8x16 of bf16", &brought, multiply_16x8x16_all<Half::kBf16>, where);
}

void multiply_16x8x8(float* d, const unsigned* a, const unsigned* b, Where where) {
  Operands brought = {d, a, b};
  of_whole_warp("multiply_16x8x8", &brought, multiply_16x8x8_all, where);
}

void multiply_8x8x4(float* d, const unsigned* a, const unsigned* b, Where where) {
  Operands brought = {d, a, b};
  of_whole_warp("multiply_8x8x4", &brought, multiply_8x8x4_all, where);
}

void async_copy(void* shared, const void* global, bool valid, Where where) {
  Runner& runner = *running;
  check_shared("async_copy_16", shared, where);
  if (valid && !aligned(global)) runner.fail(printed("async_copy_16: %p is not at a multiple of 16", global) + at(where));
  if (valid) check(global, 16, Access::kRead, __builtin_return_address(0));
  Thread& me = runner.current();
  me.copies.push_back({static_cast<unsigned char*>(shared), static_cast<const unsigned char*>(global), valid, me.groups});
  checks::copy_issued(me.copies.back(), __builtin_return_address(0));
}

void async_commit() { ++running->current().groups; }

// As late as a card may do it: what is not waited for is never there
void async_wait(int pending) {
  Thread& me = running->current();
  size_t kept = 0;
  for (const AsyncCopy& copy : me.copies) {
    if (copy.group + static_cast<unsigned>(pending) >= me.groups) {
      me.copies[kept++] = copy;
      continue;
    }
    if (copy.valid)
      memcpy(copy.shared, copy.global, 16);
    else
      memset(copy.shared, 0, 16);
    checks::copy_landed(copy);
  }
  me.copies.resize(kept);
}

}  // namespace emulator
