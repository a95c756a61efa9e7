// Addresses of code as lines of source, by addr2line, when there is something to report.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "runner.h"

namespace emulator {
namespace {

constexpr char kMark = '\1';

bool is_ours(const std::string& line) {
  return line.find("emulator/include/") != std::string::npos || line.find("emulator/src/") != std::string::npos;
}

// "csrc/kernels/gemm.cuh:41": the innermost function that is not the emulator's own
std::string line_of(uintptr_t code) {
  Dl_info library;
  if (!dladdr(reinterpret_cast<void*>(code), &library) || !library.dli_fname) return printed("code at %#zx", code);
  const uintptr_t offset = code - reinterpret_cast<uintptr_t>(library.dli_fbase);
  // The child needs nothing of what is preloaded here
  const std::string command = printed("LD_PRELOAD= addr2line -i -e '%s' %#zx 2>/dev/null", library.dli_fname, offset);
  std::string found;
  if (FILE* const lines = popen(command.c_str(), "r")) {
    char line[1000];
    while (fgets(line, sizeof(line), lines)) {
      std::string it(line, strcspn(line, " \n"));
      while (it.compare(0, 2, "./") == 0) it = it.substr(2);
      if (it.find("??") != std::string::npos) continue;
      if (found.empty() || is_ours(found)) found = it;
    }
    pclose(lines);
  }
  return found.empty() ? printed("%s+%#zx", library.dli_fname, offset) : found;
}

}  // namespace

std::string at_code(const void* return_address) {
  return kMark + std::to_string(reinterpret_cast<uintptr_t>(return_address) - 1) + kMark;
}

std::string described(const std::string& text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const size_t mark = text.find(kMark, at);
    result += text.substr(at, mark - at);
    if (mark == std::string::npos) break;
    const size_t end = text.find(kMark, mark + 1);
    result += line_of(static_cast<uintptr_t>(std::stoull(text.substr(mark + 1, end - mark - 1))));
    at = end + 1;
  }
  return result;
}

}  // namespace emulator
