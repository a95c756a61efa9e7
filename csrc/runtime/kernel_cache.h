// Compiled kernels on the disk. It may fail in any way that disks fail, and then kernels are compiled again.
#pragma once
#include <optional>
#include <string>

namespace blackwell_compat::runtime {

// BLACKWELL_COMPAT_CACHE_DIR, else blackwell_compat in XDG_CACHE_HOME or ~/.cache; made where it is missing. Empty where none can
// be had, or where others than its owner may write to it.
std::string cache_folder();

// What was kept under `key`: everything that the code depends on. Never a part of it, nor what was kept under another key.
std::optional<std::string> find_kernel(const std::string& key);

// Seen by others whole or not at all. Never throws.
void keep_kernel(const std::string& key, const std::string& code);

}  // namespace blackwell_compat::runtime
