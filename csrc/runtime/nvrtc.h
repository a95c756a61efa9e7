// NVRTC, which compiles CUDA C++ at run time, by dlopen.
#pragma once
#include <string>
#include <vector>

#include "runtime/dynlib.h"

namespace blackwell_compat::runtime {

class Nvrtc {
 public:
  // Throws RuntimeError where `path` is no NVRTC of CUDA 12 or newer.
  explicit Nvrtc(const std::string& path);

  const std::string& path() const { return path_; }
  int version() const { return version_; }                                  // 12090 is 12.9
  const std::vector<int>& architectures() const { return architectures_; }  // 75 is sm_75; ascending

  // Machine code for "sm_90", PTX for "compute_90". Throws RuntimeError with the compiler's messages.
  std::string compile(const std::string& name, const std::string& source, const std::vector<std::string>& options,
                      const std::string& architecture) const;

 private:
  template <typename... Arguments>
  int call(const char* function, Arguments... arguments) const;
  template <typename... Arguments>
  void checked(const char* function, Arguments... arguments) const;
  std::string text(const char* of, void* program) const;

  std::string path_;
  DynamicLibrary library_;
  int version_ = 0;
  std::vector<int> architectures_;
};

}  // namespace blackwell_compat::runtime
