// Its C interface, by name.
#include "runtime/nvrtc.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace blackwell_compat::runtime {

template <typename... Arguments>
int Nvrtc::call(const char* function, Arguments... arguments) const {
  const auto found = reinterpret_cast<int (*)(Arguments...)>(library_.symbol(function));
  TORCH_CHECK(found, "NVRTC: ", path_, " has no ", function, "; install one of CUDA 12.1 or newer");
  return found(arguments...);
}

template <typename... Arguments>
void Nvrtc::checked(const char* function, Arguments... arguments) const {
  const int error = call(function, arguments...);
  if (error == 0) return;
  const auto describe = reinterpret_cast<const char* (*)(int)>(library_.symbol("nvrtcGetErrorString"));
  TORCH_CHECK(false, "NVRTC: ", function, " -> ", describe ? describe(error) : "error", " (", error, "). ", path_);
}

Nvrtc::Nvrtc(const std::string& path) : path_(path), library_({path.c_str()}, DynamicLibrary::Load::kNow) {
  TORCH_CHECK(library_.found(), "NVRTC: ", library_.message());
  int major = 0, minor = 0, count = 0;
  checked("nvrtcVersion", &major, &minor);
  version_ = 1000 * major + 10 * minor;
  // It opens this one by name when it compiles; that of CUDA 13 has no RUNPATH to find it beside itself. Both stay loaded
  const std::string beside = path.substr(0, path.rfind('/') + 1) + "libnvrtc-builtins.so.";
  DynamicLibrary({(beside + std::to_string(major) + "." + std::to_string(minor)).c_str()}, DynamicLibrary::Load::kNow);
  checked("nvrtcGetNumSupportedArchs", &count);
  architectures_.resize(count);
  checked("nvrtcGetSupportedArchs", architectures_.data());
  std::sort(architectures_.begin(), architectures_.end());
}

// What nvrtcGet<of>Size and nvrtcGet<of> give, with its last zero where it is text.
std::string Nvrtc::text(const char* of, void* program) const {
  size_t size = 0;
  checked((std::string("nvrtcGet") + of + "Size").c_str(), program, &size);
  std::string result(size, '\0');
  if (size > 0) checked((std::string("nvrtcGet") + of).c_str(), program, result.data());
  return result;
}

std::string Nvrtc::compile(const std::string& name, const std::string& source, const std::vector<std::string>& options,
                           const std::string& architecture) const {
  struct Program {
    const Nvrtc& nvrtc;
    void* handle = nullptr;
    ~Program() { nvrtc.call("nvrtcDestroyProgram", &handle); }
  };
  const std::string target = "--gpu-architecture=" + architecture;
  std::vector<const char*> all{target.c_str()};
  for (const std::string& option : options) all.push_back(option.c_str());
  const char* const* const none = nullptr;
  Program program{*this};
  checked("nvrtcCreateProgram", &program.handle, source.c_str(), name.c_str(), 0, none, none);
  const int error = call("nvrtcCompileProgram", program.handle, static_cast<int>(all.size()), all.data());
  TORCH_CHECK(error == 0, "NVRTC: ", name, " does not compile for ", architecture, " with ", path_, ":\n",
              text("ProgramLog", program.handle).c_str());
  return text(architecture.rfind("sm_", 0) == 0 ? "CUBIN" : "PTX", program.handle);
}

}  // namespace blackwell_compat::runtime
