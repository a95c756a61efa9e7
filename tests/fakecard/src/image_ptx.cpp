// PTX: the target, the entries and the sizes of their parameters.
#include <cstdlib>
#include <cstring>

#include "image.h"

namespace fakecard {
namespace {

// ".param .u64 name", ".param .align 8 .b8 name[120]"
size_t bytes_of(const std::string& parameter) {
  size_t count = 1;
  const size_t bracket = parameter.find('[');
  if (bracket != std::string::npos) count = strtoul(parameter.c_str() + bracket + 1, nullptr, 10);
  for (size_t dot = parameter.find('.'); dot != std::string::npos; dot = parameter.find('.', dot + 1)) {
    const char kind = parameter[dot + 1];
    if (!strchr("busf", kind)) continue;
    const long bits = strtol(parameter.c_str() + dot + 2, nullptr, 10);
    if (bits > 0) return count * static_cast<size_t>(bits) / 8;
  }
  return 0;
}

}  // namespace

bool describe_ptx(const char* text, Image* image) {
  const char* target = strstr(text, ".target");
  const char* sm = target ? strstr(target, "sm_") : nullptr;
  if (!sm || !strstr(text, ".version")) return false;
  char* end;
  const long architecture = strtol(sm + 3, &end, 10);
  *image = {ImageKind::kPtx,
            static_cast<int>(architecture / 10),
            static_cast<int>(architecture % 10),
            *end == 'a' || *end == 'f' ? *end : '\0',
            text,
            strlen(text),
            false};
  return architecture > 0;
}

bool kernels_of_ptx(const Image& image, std::vector<KernelCode>* kernels) {
  const std::string text(image.data, strnlen(image.data, image.bytes));
  const std::string word = ".entry ";
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at)) {
    at += word.size();
    const size_t open = text.find_first_of("({\n", at);
    if (open == std::string::npos) return false;
    KernelCode kernel{text.substr(at, text.find_first_of(" \t\r", at) < open ? text.find_first_of(" \t\r", at) - at : open - at),
                      {}};
    const size_t close = text[open] == '(' ? text.find(')', open) : open;
    if (close == std::string::npos) return false;
    for (size_t from = text.find(".param", open); from < close; from = text.find(".param", from + 1))
      kernel.parameter_bytes.push_back(bytes_of(text.substr(from + 6, text.find_first_of(",)", from) - from - 6)));
    kernels->push_back(std::move(kernel));
  }
  return true;
}

}  // namespace fakecard
