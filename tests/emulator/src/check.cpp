// The checked build: kernels compiled with -fsanitize=thread call the __tsan_ functions here at every load and store; libtsan
// itself is not there. Of every byte of shared memory it is known who wrote and who read it last, and whether that is ordered
// before now: by a barrier, or within a warp by __syncwarp.
#ifdef EMULATOR_CHECKED
#include <link.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "runner.h"

namespace emulator {
namespace {

struct Cell {
  // The last write. `epoch` counts barriers and blocks; below the block's first: nobody has written yet
  uint32_t epoch;
  uint32_t time;  // of the lane: how many meetings it had been at
  int32_t code;
  uint16_t thread;
  bool atomic, in_flight;
  bool by_others;  // also changed by atomics of other warps in this epoch
  // The last reads since, by `readers` of one warp at one time of theirs
  uint16_t read_warp, other_thread;
  uint32_t read_epoch, read_time, readers;
  int32_t read_code;
  // A read of the same epoch by another warp
  int32_t other_code;
  bool other;
};

struct Checker {
  std::vector<Cell> cells{kMaxShared};
  // [thread][lane of its warp]: up to what time of that lane all is ordered before now. Its own: its time
  std::vector<std::array<uint32_t, kLanes>> clocks{kMaxThreads};
  uint32_t epoch = 1, first_epoch = 1;
  bool knows_buffers = false;
  std::vector<Range> allowed;  // by address
  Range last = {};
};
// Trivial, so that a hook costs no call to reach it
__thread Checker* checker;

int32_t packed(const void* code) {
  return static_cast<int32_t>(static_cast<const char*>(code) - reinterpret_cast<const char*>(&packed));
}
std::string at_packed(int32_t code) { return at_code(reinterpret_cast<const char*>(&packed) + code); }

int add_segments(dl_phdr_info* library, size_t, void* found) {
  std::vector<Range> segments;
  bool ours = false;
  for (int i = 0; i < library->dlpi_phnum; ++i) {
    const auto& header = library->dlpi_phdr[i];
    if (header.p_type != PT_LOAD) continue;
    const auto* const begin = reinterpret_cast<const unsigned char*>(library->dlpi_addr + header.p_vaddr);
    segments.push_back({begin, header.p_memsz});
    const auto* const here = reinterpret_cast<const unsigned char*>(&add_segments);
    ours = ours || (here >= begin && here < begin + header.p_memsz);
  }
  if (ours) *static_cast<std::vector<Range>*>(found) = segments;
  return ours;
}

// What one access is checked with
struct Actor {
  Checker& it;
  Runner& runner;
  const Thread& me;
  const void* code;

  unsigned warp() const { return me.warp(); }
  std::array<uint32_t, kLanes>& clock() const { return it.clocks[me.place.flat]; }
  uint32_t time() const { return clock()[me.place.lane]; }

  bool is_mine(uint32_t epoch) const { return epoch >= it.first_epoch; }
  bool is_after_write(const Cell& cell) const {
    if (cell.thread == me.place.flat || cell.epoch < it.epoch) return true;
    return cell.thread / kLanes == warp() && clock()[cell.thread % kLanes] > cell.time;
  }
  std::string other(unsigned thread, const char* did, int32_t where) const {
    const dim3& size = me.place.block_size;
    return printed("thread (%u,%u,%u) %s in ", thread % size.x, thread / size.x % size.y, thread / size.x / size.y, did) +
           at_packed(where);
  }
  [[noreturn]] void fail(const char* does, const Cell& cell, const std::string& what) const {
    const size_t byte = static_cast<size_t>(&cell - it.cells.data());
    runner.fail(printed("%s byte %zu of shared memory in ", does, byte) + at_code(code) + what);
  }
  void check_in_flight(const char* does, const Cell& cell) const {
    if (is_mine(cell.epoch) && cell.in_flight)
      fail(does, cell, ", which " + other(cell.thread, "copies to", cell.code) + "; that copy is not waited for");
  }

  void read(Cell& cell) const {
    if (!is_mine(cell.epoch)) fail("reads", cell, ", which nobody has written");
    check_in_flight("reads", cell);
    if (!is_after_write(cell) || (cell.by_others && cell.epoch == it.epoch))
      fail("reads", cell, ", which " + other(cell.thread, "wrote", cell.code) + ", with no barrier between");
    const uint32_t lane = 1u << me.place.lane;
    if (cell.read_epoch != it.epoch) {
      cell.other = false;
    } else if (cell.read_warp != warp()) {
      cell.other = true;
      cell.other_thread = static_cast<uint16_t>(cell.read_warp * kLanes + static_cast<unsigned>(__builtin_ctz(cell.readers)));
      cell.other_code = cell.read_code;
    } else if (cell.read_time == time()) {
      cell.readers |= lane;
      return;
    }
    cell.read_epoch = it.epoch;
    cell.read_warp = static_cast<uint16_t>(warp());
    cell.read_time = time();
    cell.readers = lane;
    cell.read_code = packed(code);
  }

  void check_readers(const char* does, const Cell& cell) const {
    if (cell.read_epoch != it.epoch) return;
    const auto race = [&](unsigned thread, int32_t where) {
      fail(does, cell, ", which " + other(thread, "read", where) + ", with no barrier between");
    };
    for (uint32_t rest = cell.readers; rest; rest &= rest - 1) {
      const unsigned lane = static_cast<unsigned>(__builtin_ctz(rest)), thread = cell.read_warp * kLanes + lane;
      if (thread != me.place.flat && (cell.read_warp != warp() || clock()[lane] <= cell.read_time)) race(thread, cell.read_code);
    }
    if (cell.other) race(cell.other_thread, cell.other_code);
  }

  void write(Cell& cell, bool atomic) const {
    const char* const does = atomic ? "changes" : "writes";
    check_in_flight(does, cell);
    const bool written = is_mine(cell.epoch);
    if (atomic && !written) fail(does, cell, ", which nobody has written");
    if (written && !(atomic && cell.atomic) && !is_after_write(cell))
      fail(does, cell, ", which " + other(cell.thread, "wrote", cell.code) + ", with no barrier between");
    check_readers(does, cell);
    cell.by_others = atomic && cell.epoch == it.epoch && (cell.by_others || (cell.atomic && cell.thread / kLanes != warp()));
    cell.epoch = it.epoch;
    cell.time = time();
    cell.code = packed(code);
    cell.thread = static_cast<uint16_t>(me.place.flat);
    cell.atomic = atomic;
    cell.in_flight = false;
    cell.read_epoch = 0;
  }
};

void check_global(Checker& it, Runner& runner, const void* address, size_t bytes, const char* does, const void* code) {
  if (!it.knows_buffers) return;
  const auto* const begin = static_cast<const unsigned char*>(address);
  const auto inside = [&](const Range& range) { return begin >= range.begin && begin + bytes <= range.begin + range.bytes; };
  if (inside(it.last)) return;
  const auto next = std::upper_bound(it.allowed.begin(), it.allowed.end(), begin,
                                     [](const unsigned char* at, const Range& range) { return at < range.begin; });
  if (next != it.allowed.begin() && inside(*(next - 1))) {
    it.last = *(next - 1);
    return;
  }
  // The first byte that is outside
  const unsigned char* outside = begin;
  if (next != it.allowed.begin()) outside = std::max(begin, std::min((next - 1)->begin + (next - 1)->bytes, begin + bytes - 1));
  runner.fail(printed("%s %zu bytes at ", does, bytes) + runner.text_of_address(outside) + ", in " + at_code(code));
}

void access(const void* address, size_t bytes, Access kind, const void* code) {
  Checker* const it = checker;
  if (!it || !place) return;  // the C++ library's own, compiled into this one
  Runner& runner = *running;
  const char* const does = kind == Access::kRead ? "reads" : kind == Access::kWrite ? "writes" : "changes";
  const size_t offset = runner.shared_offset(address);
  if (offset >= runner.launch().shared_bytes && !runner.near_shared(address)) {
    if (!Stacks::same(address, __builtin_frame_address(0))) check_global(*it, runner, address, bytes, does, code);
    return;
  }
  if (!runner.in_shared(address, bytes))
    runner.fail(printed("%s %zu bytes at ", does, bytes) + runner.text_of_address(address) + ", in " + at_code(code));
  const Actor actor = {*it, runner, runner.current(), code};
  for (Cell *cell = &it->cells[offset], *const end = cell + bytes; cell < end; ++cell)
    if (kind == Access::kRead)
      actor.read(*cell);
    else
      actor.write(*cell, kind == Access::kAtomic);
}

}  // namespace

void check(const void* address, size_t bytes, Access kind, const void* code) { access(address, bytes, kind, code); }

namespace checks {

void begin_launch(const Launch& launch, const std::vector<Thread>& threads) {
  static thread_local Checker mine;
  checker = &mine;
  mine.last = {};
  mine.knows_buffers = launch.knows_buffers;
  mine.allowed = launch.buffers;
  mine.allowed.push_back({static_cast<const unsigned char*>(launch.parameters), launch.kernel->parameter_bytes});
  // threadIdx and the like
  mine.allowed.push_back({reinterpret_cast<const unsigned char*>(&place), sizeof(place)});
  mine.allowed.push_back({reinterpret_cast<const unsigned char*>(threads.data()), threads.size() * sizeof(Thread)});
  std::vector<Range> segments;
  dl_iterate_phdr(add_segments, &segments);
  mine.allowed.insert(mine.allowed.end(), segments.begin(), segments.end());
  std::sort(mine.allowed.begin(), mine.allowed.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
}

void begin_block() {
  checker->first_epoch = ++checker->epoch;
  for (auto& clock : checker->clocks) clock.fill(0);
}

void passed_barrier() { ++checker->epoch; }

void passed_meeting(unsigned warp, unsigned mask) {
  auto* const clocks = &checker->clocks[warp * kLanes];
  std::array<uint32_t, kLanes> joined = {};
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const auto lane = static_cast<size_t>(__builtin_ctz(rest));
    for (size_t i = 0; i < kLanes; ++i) joined[i] = std::max(joined[i], clocks[lane][i]);
    joined[lane] = std::max(joined[lane], clocks[lane][lane] + 1);
  }
  for (unsigned rest = mask; rest; rest &= rest - 1) clocks[static_cast<size_t>(__builtin_ctz(rest))] = joined;
}

void copy_issued(const AsyncCopy& copy, const void* code) {
  access(copy.shared, 16, Access::kWrite, code);
  Cell* const cells = &checker->cells[running->shared_offset(copy.shared)];
  for (size_t i = 0; i < 16; ++i) cells[i].in_flight = true;
}

void copy_landed(const AsyncCopy& copy) {
  Runner& runner = *running;
  Cell* const cells = &checker->cells[runner.shared_offset(copy.shared)];
  for (size_t i = 0; i < 16; ++i) {
    Cell& cell = cells[i];
    cell.epoch = checker->epoch;
    cell.time = checker->clocks[runner.current().place.flat][runner.current().place.lane];
    cell.in_flight = false;
  }
}

}  // namespace checks
}  // namespace emulator

using emulator::Access;

#define EMULATOR_HOOK(name, kind, bytes) \
  extern "C" void __tsan_##name(const void* address) { emulator::access(address, bytes, kind, __builtin_return_address(0)); }
#define EMULATOR_HOOKS(bytes)                                \
  EMULATOR_HOOK(read##bytes, Access::kRead, bytes)           \
  EMULATOR_HOOK(write##bytes, Access::kWrite, bytes)         \
  EMULATOR_HOOK(unaligned_read##bytes, Access::kRead, bytes) \
  EMULATOR_HOOK(unaligned_write##bytes, Access::kWrite, bytes)
EMULATOR_HOOKS(1)
EMULATOR_HOOKS(2)
EMULATOR_HOOKS(4)
EMULATOR_HOOKS(8)
EMULATOR_HOOKS(16)

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(const void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_read_range(const void* address, size_t bytes) {
  emulator::access(address, bytes, Access::kRead, __builtin_return_address(0));
}
void __tsan_write_range(const void* address, size_t bytes) {
  emulator::access(address, bytes, Access::kWrite, __builtin_return_address(0));
}

// -fsanitize=alignment: a card does not read four floats at once where the CPU does
struct Misaligned {  // as libubsan has it
  const char* file;
  uint32_t line, column;
  const void* type;
  unsigned char log2_alignment, kind;
};
void __ubsan_handle_type_mismatch_v1(const Misaligned* it, const void* address) {
  if (!emulator::place) return;
  emulator::running->fail("touches " + emulator::running->text_of_address(address) +
                          emulator::printed(", as a type aligned to %u, in ", 1u << it->log2_alignment) +
                          emulator::at_code(__builtin_return_address(0)));
}

// What kernels' memcpy and the compiler's own are called there (emulator/math.h)
void* emulator_memcpy(void* to, const void* from, size_t bytes) {
  emulator::access(from, bytes, Access::kRead, __builtin_return_address(0));
  emulator::access(to, bytes, Access::kWrite, __builtin_return_address(0));
  return memcpy(to, from, bytes);
}
void* emulator_memmove(void* to, const void* from, size_t bytes) {
  emulator::access(from, bytes, Access::kRead, __builtin_return_address(0));
  emulator::access(to, bytes, Access::kWrite, __builtin_return_address(0));
  return memmove(to, from, bytes);
}
void* emulator_memset(void* to, int value, size_t bytes) {
  emulator::access(to, bytes, Access::kWrite, __builtin_return_address(0));
  return memset(to, value, bytes);
}
}
#endif
