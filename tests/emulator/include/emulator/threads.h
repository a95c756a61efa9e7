// Functions that several threads take part in: barriers, shuffles and votes of a warp, atomics.
#pragma once

inline void __syncthreads(emulator::Where where = emulator::here()) { emulator::barrier("__syncthreads", 0, where); }
inline int __syncthreads_count(int predicate, emulator::Where where = emulator::here()) {
  return emulator::barrier("__syncthreads_count", predicate != 0, where);
}
inline int __syncthreads_or(int predicate, emulator::Where where = emulator::here()) {
  return emulator::barrier("__syncthreads_or", predicate != 0, where) != 0;
}
inline int __syncthreads_and(int predicate, emulator::Where where = emulator::here()) {
  return emulator::barrier("__syncthreads_and", predicate == 0, where) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, emulator::Where where = emulator::here()) {
  emulator::meet("__syncwarp", mask, nullptr, [](void* const*, unsigned) {}, where);
}
inline void __threadfence() { asm volatile("" ::: "memory"); }
inline void __threadfence_block() { asm volatile("" ::: "memory"); }
inline void __threadfence_system() { asm volatile("" ::: "memory"); }
[[noreturn]] inline void __trap() { emulator::fail("__trap()"); }

namespace emulator {

template <typename T>
struct Shuffle {
  T value, result;
  unsigned from;
};
template <typename T>
EMULATOR_UNCHECKED void shuffle_all(void* const* lanes, unsigned mask) {
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    auto& mine = *static_cast<Shuffle<T>*>(lanes[lane]);
    mine.result = static_cast<Shuffle<T>*>(lanes[mine.from])->value;
  }
}
template <typename T>
EMULATOR_UNCHECKED T shuffle(const char* name, unsigned mask, T value, unsigned from, Where where) {
  if (!(mask >> from & 1))
    fail("%s in %s:%d reads lane %u, which mask %#x does not name", name, where.file, where.line, from, mask);
  Shuffle<T> mine{value, value, from};
  meet(name, mask, &mine, shuffle_all<T>, where);
  return mine.result;
}

inline bool is_width(int width) { return width > 0 && width <= 32 && (width & (width - 1)) == 0; }
inline unsigned segment(int width) {
  if (!is_width(width)) fail("a shuffle's width must be 1, 2, 4, 8, 16 or 32, got %d", width);
  return place->lane & ~static_cast<unsigned>(width - 1);
}

struct Vote {
  bool predicate;
  unsigned ballot;
};
EMULATOR_UNCHECKED inline void vote_all(void* const* lanes, unsigned mask) {
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1 && static_cast<Vote*>(lanes[lane])->predicate) ballot |= 1u << lane;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) static_cast<Vote*>(lanes[lane])->ballot = ballot;
}
EMULATOR_UNCHECKED inline unsigned vote(const char* name, unsigned mask, int predicate, Where where) {
  Vote mine{predicate != 0, 0};
  meet(name, mask, &mine, vote_all, where);
  return mine.ballot;
}

}  // namespace emulator

// Where the lane asked for is outside the segment, a lane keeps its own value, as on the card
template <typename T>
inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32, emulator::Where where = emulator::here()) {
  const unsigned first = emulator::segment(width), inside = static_cast<unsigned>(lane) & static_cast<unsigned>(width - 1);
  return emulator::shuffle("__shfl_sync", mask, value, first + inside, where);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, emulator::Where where = emulator::here()) {
  const unsigned lane = emulator::place->lane, first = emulator::segment(width);
  return emulator::shuffle("__shfl_up_sync", mask, value, lane - first >= (delta & 31) ? lane - (delta & 31) : lane, where);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, emulator::Where where = emulator::here()) {
  const unsigned lane = emulator::place->lane, end = emulator::segment(width) + static_cast<unsigned>(width);
  return emulator::shuffle("__shfl_down_sync", mask, value, (delta & 31) < end - lane ? lane + (delta & 31) : lane, where);
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, emulator::Where where = emulator::here()) {
  const unsigned lane = emulator::place->lane, end = emulator::segment(width) + static_cast<unsigned>(width);
  const unsigned from = lane ^ (static_cast<unsigned>(lanes) & 31);  // an earlier segment may be read, a later one not
  return emulator::shuffle("__shfl_xor_sync", mask, value, from < end ? from : lane, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, emulator::Where where = emulator::here()) {
  return emulator::vote("__ballot_sync", mask, predicate, where);
}
inline int __any_sync(unsigned mask, int predicate, emulator::Where where = emulator::here()) {
  return emulator::vote("__any_sync", mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, emulator::Where where = emulator::here()) {
  return emulator::vote("__all_sync", mask, predicate, where) == mask;
}

namespace emulator {

// Reads and writes in one step; launches on several OS threads may meet at an address
template <typename T, typename F>
EMULATOR_UNCHECKED T change(T* address, F changed) {
  check(address, sizeof(T), Access::kAtomic, __builtin_return_address(0));
  T before, after;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  do after = changed(before);
  while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return before;
}

}  // namespace emulator

#define EMULATOR_ATOMIC(T, name, ...)                                          \
  inline T name(T* address, T value) {                                         \
    return emulator::change(address, [=](T old) -> T { return __VA_ARGS__; }); \
  }
#define EMULATOR_INTEGER_ATOMICS(T)                                                              \
  EMULATOR_ATOMIC(T, atomicAdd, old + value)                                                     \
  EMULATOR_ATOMIC(T, atomicMax, old < value ? value : old)                                       \
  EMULATOR_ATOMIC(T, atomicMin, value < old ? value : old)                                       \
  EMULATOR_ATOMIC(T, atomicExch, (static_cast<void>(old), value))                                \
  EMULATOR_ATOMIC(T, atomicAnd, old& value)                                                      \
  EMULATOR_ATOMIC(T, atomicOr, old | value)                                                      \
  EMULATOR_ATOMIC(T, atomicXor, old ^ value)                                                     \
  inline T atomicCAS(T* address, T expected, T value) {                                          \
    return emulator::change(address, [=](T old) -> T { return old == expected ? value : old; }); \
  }
EMULATOR_INTEGER_ATOMICS(int)
EMULATOR_INTEGER_ATOMICS(unsigned)
EMULATOR_INTEGER_ATOMICS(unsigned long long)
EMULATOR_ATOMIC(int, atomicSub, old - value)
EMULATOR_ATOMIC(unsigned, atomicSub, old - value)
EMULATOR_ATOMIC(float, atomicAdd, old + value)
EMULATOR_ATOMIC(float, atomicExch, (static_cast<void>(old), value))
#if __CUDA_ARCH__ >= 600
EMULATOR_ATOMIC(double, atomicAdd, old + value)
#endif
#undef EMULATOR_INTEGER_ATOMICS
#undef EMULATOR_ATOMIC
