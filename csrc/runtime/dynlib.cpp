// dlopen and dlsym stand here and nowhere else.
#include "runtime/dynlib.h"

#include <dlfcn.h>

namespace blackwell_compat::runtime {

DynamicLibrary::DynamicLibrary(std::initializer_list<const char*> names, Load load) {
  const int flags = RTLD_NOW | RTLD_LOCAL | (load == Load::kOnlyIfLoaded ? RTLD_NOLOAD : 0);
  for (const char* name : names) {
    handle_ = dlopen(name, flags);
    if (handle_) return;
    const char* error = dlerror();
    message_ += (message_.empty() ? "" : "; ") + std::string(error ? error : std::string(name) + " is not loaded");
  }
}

void* DynamicLibrary::symbol(const char* name) const { return handle_ ? dlsym(handle_, name) : nullptr; }

}  // namespace blackwell_compat::runtime
