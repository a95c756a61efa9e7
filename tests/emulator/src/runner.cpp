#include "runner.h"

#include <signal.h>
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

namespace emulator {

__thread Runner* running = nullptr;
__thread const Place* place = nullptr;

namespace {

struct sigaction before[65];

void on_signal(int number, siginfo_t* info, void* context) {
  if (running && running->in_kernel()) {
#if defined(__x86_64__)
    const auto code = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
#else
    const auto code = static_cast<ucontext_t*>(context)->uc_mcontext.pc;
#endif
    running->crash(number, info->si_addr, reinterpret_cast<const void*>(code));
  }
  const struct sigaction& other = before[number];
  if (other.sa_flags & SA_SIGINFO) return other.sa_sigaction(number, info, context);
  if (other.sa_handler != SIG_DFL && other.sa_handler != SIG_IGN) return other.sa_handler(number);
  signal(number, SIG_DFL);  // the instruction is tried again, and ends the process with this signal
}

void catch_signals() {
  static const bool once = [] {
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (const int number : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(number, &action, &before[number]);
    return true;
  }();
  static_cast<void>(once);
}

bool same(const char* a, const char* b) { return a == b || strcmp(a, b) == 0; }
bool same(const Where& a, const Where& b) { return a.line == b.line && same(a.file, b.file); }

unsigned lowest(unsigned mask) { return static_cast<unsigned>(__builtin_ctz(mask)); }

}  // namespace

std::string printed(const char* format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return text;
}

std::string text_of(const Thread& thread) {
  const uint3& it = thread.place.thread;
  return printed("thread (%u,%u,%u)", it.x, it.y, it.z);
}

std::string text_of(const char* name, const Where& where) { return printed("%s in %s:%d", name, where.file, where.line); }

Runner& Runner::of_this_thread() {
  static thread_local Runner runner;
  running = &runner;
  return runner;
}

Runner::Runner() {
  catch_signals();
  void* mapped = mmap(nullptr, kSharedMapBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  shared_map_ = static_cast<unsigned char*>(mapped);
  mprotect(shared_map_, kGuardBytes, PROT_NONE);
  mprotect(shared_map_ + kGuardBytes + kMaxShared, kGuardBytes, PROT_NONE);
  // A handler needs a stack of its own when a kernel has used up its own
  stack_t there;
  if (sigaltstack(nullptr, &there) == 0 && there.ss_flags & SS_DISABLE) {
    constexpr size_t kBytes = 64 << 10;
    signal_stack_.reset(new unsigned char[kBytes]);
    const stack_t ours = {signal_stack_.get(), 0, kBytes};
    sigaltstack(&ours, nullptr);
  }
}

Runner::~Runner() {
  running = nullptr;
  if (signal_stack_) {
    stack_t none = {};
    none.ss_flags = SS_DISABLE;
    sigaltstack(&none, nullptr);
  }
  munmap(shared_map_, kSharedMapBytes);
}

std::string Runner::run(const Launch& launch) {
  launch_ = &launch;
  error_.clear();
  total_ = launch.block.x * launch.block.y * launch.block.z;
  threads_.resize(total_);
  warps_.resize((total_ + kLanes - 1) / kLanes);
  checks::begin_launch(launch, threads_);
  for (unsigned z = 0; z < launch.grid.z; ++z)
    for (unsigned y = 0; y < launch.grid.y; ++y)
      for (unsigned x = 0; x < launch.grid.x; ++x) {
        run_block({x, y, z});
        if (error_.empty()) continue;
        const uint3& thread = current_->place.thread;
        return printed("%s, block (%u,%u,%u), thread (%u,%u,%u): ", launch.kernel->name, x, y, z, thread.x, thread.y, thread.z) +
               described(error_);
      }
  return "";
}

void Runner::run_block(uint3 index) {
  // Ends at the guard page; what was not written is NaN in every float type
  const size_t bytes = (launch_->shared_bytes + 15) / 16 * 16;
  unsigned char* shared = shared_map_ + kGuardBytes + kMaxShared - bytes;
  memset(shared, 0xff, bytes);
  for (unsigned i = 0; i < total_; ++i) {
    Thread& it = threads_[i];
    const dim3& size = launch_->block;
    it.place = {{i % size.x, i / size.x % size.y, i / size.x / size.y}, index, size, launch_->grid, shared, i % kLanes, i};
    it.stack = stacks_.prepare(i, thread_entry);
    it.copies.clear();
    it.groups = 0;
    it.at_barrier = it.returned = false;
  }
  for (unsigned i = 0; i < warps_.size(); ++i) {
    const unsigned lanes = total_ - i * kLanes, present = lanes >= kLanes ? ~0u : (1u << lanes) - 1;
    warps_[i] = {present, present, 0, 0};
  }
  returned_ = arrived_ = 0;
  brought_ = 0;
  crash_.signal = 0;
  current_ = &threads_[0];
  place = &current_->place;
  checks::begin_block();
  in_kernel_ = true;
  emulator_switch(&main_stack_, current_->stack);
  in_kernel_ = false;
  place = nullptr;
  if (crash_.signal) error_ = text_of_crash();
}

void Runner::thread_entry() {
  running->launch_->kernel->run(running->launch_->parameters);
  running->thread_returns();
}

void Runner::thread_returns() {
  Thread& me = *current_;
  Warp& warp = warps_[me.warp()];
  const unsigned lane = 1u << me.place.lane;
  if (arrived_) fail("returns, while " + text_of(*first_) + " waits for it at " + text_of(first_->name, first_->where));
  for (unsigned rest = warp.meeting; rest; rest &= rest - 1) {
    const Thread& other = threads_[me.warp() * kLanes + lowest(rest)];
    if (other.mask & lane) fail("returns, while " + text_of(other) + " waits for it at " + text_of(other.name, other.where));
  }
  me.returned = true;
  warp.returned |= lane;
  warp.ready &= ~lane;
  ++returned_;
  run_next();
  __builtin_unreachable();
}

void Runner::run_next() {
  Thread* const from = current_;
  const unsigned count = static_cast<unsigned>(warps_.size());
  for (unsigned i = 0, w = from->warp(); i < count; ++i, w = w + 1 == count ? 0 : w + 1) {
    if (!warps_[w].ready) continue;
    current_ = &threads_[w * kLanes + lowest(warps_[w].ready)];
    place = &current_->place;
    emulator_switch(&from->stack, current_->stack);
    return;
  }
  if (returned_ == total_) leave();
  stuck();
}

void Runner::leave() {
  void* unused;
  emulator_switch(&unused, main_stack_);
  __builtin_unreachable();
}

void Runner::stuck() {
  for (const Thread& it : threads_) {
    const Warp& warp = warps_[it.warp()];
    if (!(warp.meeting >> it.place.lane & 1)) continue;
    const Thread& missing = threads_[it.warp() * kLanes + lowest(it.mask & ~warp.meeting)];
    current_ = &threads_[it.place.flat];
    fail(text_of(it.name, it.where) + printed(" waits for lanes %#x, but ", it.mask) + text_of(missing) + " waits at " +
         text_of(missing.name, missing.where));
  }
  fail("no thread of the block can go on");
}

int Runner::barrier(const char* name, int brought, Where where) {
  Thread& me = *current_;
  if (returned_) {
    const Thread* gone = threads_.data();
    while (!gone->returned) ++gone;
    fail("waits at " + text_of(name, where) + ", but " + text_of(*gone) + " has returned");
  }
  me.name = name;
  me.where = where;
  if (!arrived_) {
    first_ = &me;
  } else if (!same(name, first_->name) || !same(where, first_->where)) {
    fail("waits at " + text_of(name, where) + ", but " + text_of(*first_) + " at " + text_of(first_->name, first_->where));
  }
  brought_ += brought;
  if (++arrived_ < total_) {
    warps_[me.warp()].ready &= ~(1u << me.place.lane);
    me.at_barrier = true;
    run_next();
    return result_;
  }
  result_ = brought_;
  brought_ = 0;
  arrived_ = 0;
  for (Warp& warp : warps_) warp.ready = warp.present;
  for (Thread& it : threads_) it.at_barrier = false;
  checks::passed_barrier();
  return result_;
}

void Runner::meet(const char* name, unsigned mask, void* brought, Work work, Where where) {
  Thread& me = *current_;
  Warp& warp = warps_[me.warp()];
  const unsigned lane = 1u << me.place.lane;
  const auto self = [&] { return text_of(name, where) + printed(" with mask %#x", mask); };
  if (!(mask & lane)) fail(self() + " does not name its own lane");
  if (mask & ~warp.present) fail(self() + printed(" names lanes the block lacks: this warp has %#x", warp.present));
  if (mask & warp.returned) {
    const Thread& gone = threads_[me.warp() * kLanes + lowest(mask & warp.returned)];
    fail(self() + ", but " + text_of(gone) + " has returned");
  }
  me.name = name;
  me.where = where;
  me.mask = mask;
  me.brought = brought;
  warp.meeting |= lane;
  if ((warp.meeting & mask) != mask) {
    warp.ready &= ~lane;
    return run_next();
  }
  void* all[kLanes];
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const Thread& other = threads_[me.warp() * kLanes + lowest(rest)];
    if (other.mask != mask || !same(other.where, where) || !same(other.name, name))
      fail(self() + ", but " + text_of(other) + " is at " + text_of(other.name, other.where) +
           printed(" with mask %#x", other.mask));
    all[other.place.lane] = other.brought;
  }
  work(all, mask);
  warp.meeting &= ~mask;
  warp.ready |= mask;
  if (!brought) checks::passed_meeting(me.warp(), mask);  // __syncwarp alone orders memory
}

void Runner::fail(const std::string& text) {
  error_ = text;
  leave();
}

void Runner::crash(int signal, const void* address, const void* code) {
  crash_ = {signal, address, code};
  in_kernel_ = false;
  leave();
}

bool Runner::in_shared(const void* address, size_t bytes) const {
  const unsigned char* const at = static_cast<const unsigned char*>(address);
  return at >= current_->place.shared && at + bytes <= current_->place.shared + launch_->shared_bytes;
}

std::string Runner::text_of_address(const void* address) const {
  const auto* at = static_cast<const unsigned char*>(address);
  if (near_shared(address))
    return printed("byte %td of shared memory, which has %zu", at - current_->place.shared, launch_->shared_bytes);
  for (const Range& buffer : launch_->buffers) {
    if (at >= buffer.begin && at < buffer.begin + buffer.bytes)
      return printed("%p, which is in a buffer of %zu", address, buffer.bytes);
    const ptrdiff_t past = at - (buffer.begin + buffer.bytes), early = buffer.begin - at;
    if (past >= 0 && past < 4096) return printed("%p, %td bytes past the end of a buffer of %zu", address, past, buffer.bytes);
    if (early > 0 && early <= 4096) return printed("%p, %td bytes before a buffer of %zu", address, early, buffer.bytes);
  }
  return printed("%p, which is in no buffer", address);
}

std::string Runner::text_of_crash() const {
  const std::string where = ", in " + at_code(static_cast<const char*>(crash_.code) + 1);
  if (crash_.signal == SIGFPE) return "integer division by zero" + where;
  if (stacks_.is_guard(crash_.address)) return "its stack of 192 KiB is used up" + where;
  return "touches " + text_of_address(crash_.address) + where;
}

void fail(const char* format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  running->fail(text);
}

int barrier(const char* name, int brought, Where where) { return running->barrier(name, brought, where); }

void meet(const char* name, unsigned mask, void* brought, Work work, Where where) {
  running->meet(name, mask, brought, work, where);
}

}  // namespace emulator
