// From a kernel's source to code for a card: by the compiler that suits it best, once per machine.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/nvrtc.h"

namespace blackwell_compat::runtime {

// Where NVRTC may be, best first. Files that are none are left out.
void set_compilers(const std::vector<std::string>& paths);
std::vector<std::shared_ptr<const Nvrtc>> compilers();

struct Target {
  std::shared_ptr<const Nvrtc> compiler;
  std::string architecture;  // "sm_120": machine code; "compute_90": PTX, which the driver compiles further
};

// For a card of compute capability 12.0 `capability` is 120. The first compiler that knows it; else machine code of its major
// version, which runs there; else the newest PTX below it; else nothing. Compilers newer than the driver, which does not read
// what they make, come after all that.
std::optional<Target> find_target(int capability);

// That. Throws RuntimeError where there is none, and says what to install.
Target target_for(int capability);

// PTX of the same architecture.
Target as_ptx(Target target);

// Code of `source`, from the disk (kernel_cache.h) where it was compiled before; else `before` is called, which may be empty.
// `name` is for messages. Thread-safe.
std::string compiled(const std::string& name, const std::string& source, const std::vector<std::string>& options,
                     const Target& target, const std::function<void()>& before = {});

}  // namespace blackwell_compat::runtime
