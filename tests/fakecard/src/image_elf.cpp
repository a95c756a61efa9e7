// Cubins: ELF files of machine 190. Only the architecture, the kernels' names and the sizes of their parameters are read.
#include <cstring>
#include <map>

#include "image.h"

namespace fakecard {
namespace {

struct ElfHeader {
  unsigned char ident[16];  // [8]: ABI version
  uint16_t type, machine;
  uint32_t version;
  uint64_t entry, program_offset, section_offset;
  uint32_t flags;
  uint16_t header_bytes, program_bytes, programs, section_bytes, sections, names;
};
struct ElfSection {
  uint32_t name, type;
  uint64_t flags, address, offset, bytes;
  uint32_t link, info;
  uint64_t alignment, entry_bytes;
};
static_assert(sizeof(ElfHeader) == 64 && sizeof(ElfSection) == 64, "as they lie in the file");
constexpr int kCudaMachine = 190, kAbiOfCuda13 = 8;
constexpr uint32_t kOldVariantA = 0x800, kNewVariantA = 0x8;

// .nv.info and .nv.compat hold attributes: a format, a number, a value of one or two bytes, or a size and that many bytes
constexpr uint8_t kSized = 4, kParameterInfo = 0x17, kArchitectureSpecific = 0x09;

template <typename T>
T read(const char* at) {
  T it;
  memcpy(&it, at, sizeof(it));
  return it;
}

template <typename Visit>
bool each_section(const char* data, size_t limit, Visit visit) {
  if (limit < sizeof(ElfHeader)) return false;
  const auto header = read<ElfHeader>(data);
  if (header.section_bytes != sizeof(ElfSection) || header.names >= header.sections || header.section_offset > limit ||
      size_t(header.sections) * sizeof(ElfSection) > limit - header.section_offset)
    return false;
  const auto at = [&](int i) { return read<ElfSection>(data + header.section_offset + size_t(i) * sizeof(ElfSection)); };
  const auto inside = [&](const ElfSection& it) { return it.offset <= limit && it.bytes <= limit - it.offset; };
  const ElfSection names = at(header.names);
  if (!inside(names) || !names.bytes || data[names.offset + names.bytes - 1]) return false;
  for (int i = 0; i < header.sections; ++i) {
    const ElfSection section = at(i);
    if (section.name >= names.bytes) return false;
    constexpr uint32_t kNoBits = 8;
    if (section.type != kNoBits && !inside(section)) return false;
    visit(std::string(data + names.offset + section.name), data + section.offset, section.type == kNoBits ? 0 : section.bytes);
  }
  return true;
}

template <typename Visit>
void each_attribute(const char* at, size_t bytes, Visit visit) {
  const char* const end = at + bytes;
  while (end - at >= 4) {
    const auto format = static_cast<uint8_t>(at[0]), number = static_cast<uint8_t>(at[1]);
    const auto value = read<uint16_t>(at + 2);
    at += 4;
    const size_t size = format == kSized ? value : 0;
    if (size > static_cast<size_t>(end - at)) return;
    visit(number, value, at, size);
    at += size;
  }
}

}  // namespace

bool describe_cubin(const char* data, Image* image) {
  const auto header = read<ElfHeader>(data);
  if (header.machine != kCudaMachine) return false;
  // CUDA 12 writes the architecture into the lowest byte of the flags, CUDA 13 and whatever knows sm_100 into the second
  const bool newer = header.ident[8] >= kAbiOfCuda13;
  const int architecture = static_cast<int>(newer ? header.flags >> 8 & 0xFF : header.flags & 0xFF);
  bool specific = header.flags & (newer ? kNewVariantA : kOldVariantA);
  constexpr size_t kUnknownSize = size_t(1) << 40;  // a driver is not told how long a cubin is either
  each_section(data, kUnknownSize, [&](const std::string& name, const char* at, size_t bytes) {
    if (name != ".nv.compat") return;
    each_attribute(at, bytes, [&](uint8_t number, uint16_t value, const char*, size_t) {
      if (number == kArchitectureSpecific && value & 0xFF) specific = true;
    });
  });
  *image = {ImageKind::kSass, architecture / 10, architecture % 10, specific ? 'a' : '\0', data, kUnknownSize, false};
  return true;
}

bool kernels_of_cubin(const Image& image, std::vector<KernelCode>* kernels) {
  std::map<std::string, std::map<uint16_t, size_t>> parameters;  // kernel -> ordinal -> bytes
  const bool whole = each_section(image.data, image.bytes, [&](const std::string& name, const char* at, size_t bytes) {
    const std::string text = ".text.", info = ".nv.info.";
    if (name.compare(0, text.size(), text) == 0) parameters[name.substr(text.size())];
    if (name.compare(0, info.size(), info) != 0) return;
    auto& of_kernel = parameters[name.substr(info.size())];
    each_attribute(at, bytes, [&](uint8_t number, uint16_t, const char* value, size_t size) {
      if (number != kParameterInfo || size < 12) return;
      of_kernel[read<uint16_t>(value + 4)] = read<uint32_t>(value + 8) >> 18;
    });
  });
  for (const auto& [name, sizes] : parameters) {
    KernelCode kernel{name, {}};
    for (const auto& [ordinal, bytes] : sizes) kernel.parameter_bytes.push_back(bytes);
    kernels->push_back(std::move(kernel));
  }
  return whole;
}

}  // namespace fakecard
