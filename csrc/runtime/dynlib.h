// Libraries that are looked up while the program runs: nothing of CUDA is linked.
#pragma once
#include <initializer_list>
#include <string>

namespace blackwell_compat::runtime {

class DynamicLibrary {
 public:
  enum class Load { kNow, kOnlyIfLoaded };

  // The first of `names` that is there; message() says why none is.
  DynamicLibrary(std::initializer_list<const char*> names, Load load);

  bool found() const { return handle_ != nullptr; }
  const std::string& message() const { return message_; }
  void* symbol(const char* name) const;  // null where the library lacks it

 private:
  void* handle_ = nullptr;
  std::string message_;
};

}  // namespace blackwell_compat::runtime
