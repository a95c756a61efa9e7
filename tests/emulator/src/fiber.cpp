#include "fiber.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#if defined(__x86_64__)
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch, .-emulator_switch
)");
constexpr size_t kSavedBytes = 8 * 8, kEntryAt = 6 * 8;  // behind the address of entry: one word, as after a call
#elif defined(__aarch64__)
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch, %function
emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulator_switch, .-emulator_switch
)");
constexpr size_t kSavedBytes = 160, kEntryAt = 88;
#else
#error "the emulator switches stacks on x86-64 and aarch64"
#endif

namespace emulator {
namespace {

constexpr size_t kGuardBytes = 64 << 10, kStacksInSlab = 32, kSlabBytes = kStackBytes * kStacksInSlab;

}  // namespace

Stacks::~Stacks() {
  for (unsigned char* slab : slabs_) munmap(slab, kSlabBytes);
}

void* Stacks::prepare(size_t index, void (*entry)()) {
  while (index / kStacksInSlab >= slabs_.size()) {
    constexpr int kKind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* const mapped = mmap(nullptr, kSlabBytes + kStackBytes, PROT_READ | PROT_WRITE, kKind, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    const size_t before = -reinterpret_cast<uintptr_t>(mapped) % kStackBytes;
    unsigned char* const slab = static_cast<unsigned char*>(mapped) + before;
    if (before) munmap(mapped, before);
    munmap(slab + kSlabBytes, kStackBytes - before);
    slabs_.push_back(slab);
    for (size_t i = 0; i < kStacksInSlab; ++i) mprotect(slabs_.back() + i * kStackBytes, kGuardBytes, PROT_NONE);
  }
  unsigned char* top = slabs_[index / kStacksInSlab] + (index % kStacksInSlab + 1) * kStackBytes;
  top -= index % 16 * 832;  // stacks of the same alignment would share a few lines of the cache
  unsigned char* saved = top - kSavedBytes;
  memset(saved, 0, kSavedBytes);
  const auto address = reinterpret_cast<uintptr_t>(entry);
  memcpy(saved + kEntryAt, &address, sizeof(address));
  return saved;
}

bool Stacks::is_guard(const void* address) const {
  const auto* at = static_cast<const unsigned char*>(address);
  for (unsigned char* slab : slabs_)
    if (at >= slab && at < slab + kSlabBytes) return static_cast<size_t>(at - slab) % kStackBytes < kGuardBytes;
  return false;
}

}  // namespace emulator
