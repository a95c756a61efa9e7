// The choice of a compiler, and the key under which its work is kept.
#include "runtime/compiler.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <mutex>
#include <sstream>

#include "runtime/driver.h"
#include "runtime/kernel_cache.h"

namespace blackwell_compat::runtime {
namespace {

using Compilers = std::vector<std::shared_ptr<const Nvrtc>>;

std::mutex mutex;
Compilers found;

std::string dotted(int capability) { return std::to_string(capability / 10) + "." + std::to_string(capability % 10); }

std::string what_was_found(const Compilers& all) {
  if (all.empty()) return "no NVRTC was found";
  std::ostringstream text;
  for (const auto& one : all) {
    text << (&one == &all.front() ? "found " : ", ") << "NVRTC " << one->version() / 1000 << '.' << one->version() % 1000 / 10
         << " (" << one->path() << ") for " << dotted(one->architectures().front()) << " to "
         << dotted(one->architectures().back());
  }
  return text.str();
}

// The newest architecture from `lowest` to `highest` that a compiler knows, 0 for none.
int newest(const Nvrtc& compiler, int lowest, int highest) {
  int best = 0;
  for (const int architecture : compiler.architectures()) {
    if (architecture >= lowest && architecture <= highest) best = architecture;
  }
  return best;
}

constexpr int kMajor = 1000;  // 13000 is CUDA 13.0

// Those whose code the driver reads, if there is one: of its major version of CUDA or an older one.
Compilers readable(Compilers all) {
  int version = 0;
  if (!has_driver() || driver().cuDriverGetVersion(&version) != 0) return all;
  all.erase(std::remove_if(all.begin(), all.end(), [&](const auto& one) { return one->version() / kMajor > version / kMajor; }),
            all.end());
  return all;
}

std::optional<Target> best_of(const Compilers& all, int capability) {
  const int lowest[] = {capability, capability / 10 * 10, 0};
  for (const int from : lowest) {
    Target best;
    int highest = 0;
    for (const auto& compiler : all) {
      const int architecture = newest(*compiler, from, capability);
      if (architecture <= highest) continue;
      highest = architecture;
      best = {compiler, (from == 0 ? "compute_" : "sm_") + std::to_string(architecture)};
    }
    if (best.compiler) return best;
  }
  return std::nullopt;
}

}  // namespace

void set_compilers(const std::vector<std::string>& paths) {
  Compilers usable;
  for (const std::string& path : paths) {
    try {
      usable.push_back(std::make_shared<const Nvrtc>(path));
    } catch (const c10::Error&) {
      continue;  // doctor lists those that are used
    }
  }
  const std::lock_guard<std::mutex> lock(mutex);
  found = std::move(usable);
}

Compilers compilers() {
  const std::lock_guard<std::mutex> lock(mutex);
  return found;
}

std::optional<Target> find_target(int capability) {
  const Compilers all = compilers();
  const auto found_one = best_of(readable(all), capability);
  return found_one ? found_one : best_of(all, capability);
}

Target target_for(int capability) {
  const auto found_one = find_target(capability);
  if (found_one) return *found_one;
  TORCH_CHECK(false, "kernels: nothing compiles for compute capability ", dotted(capability), "; ", what_was_found(compilers()),
              ". Install one that knows it: pip install 'nvidia-cuda-nvrtc-cu12>=12.9,<13' (5.0 to 12.1)");
}

Target as_ptx(Target target) {
  const size_t number = target.architecture.find('_') + 1;
  target.architecture = "compute_" + target.architecture.substr(number);
  return target;
}

std::string compiled(const std::string& name, const std::string& source, const std::vector<std::string>& options,
                     const Target& target, const std::function<void()>& before) {
  std::ostringstream key;
  key << "NVRTC " << target.compiler->version() << '\n' << target.architecture << '\n' << options.size() << '\n';
  for (const std::string& option : options) key << option << '\n';
  key << source;
  if (auto code = find_kernel(key.str())) return *std::move(code);
  if (before) before();
  std::string code = target.compiler->compile(name, source, options, target.architecture);
  keep_kernel(key.str(), code);
  return code;
}

}  // namespace blackwell_compat::runtime
