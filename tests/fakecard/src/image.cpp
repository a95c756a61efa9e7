// Fatbins, and the rules of which image runs on which card.
#include "image.h"

#include <cstdlib>
#include <cstring>

namespace fakecard {
namespace {

struct FatbinHeader {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes;  // of the entries that follow
};
struct FatbinEntry {
  uint16_t kind, version;
  uint32_t header_bytes;
  uint64_t padded_bytes;
  uint32_t compressed_bytes, options_offset;
  uint16_t code_minor, code_major;
  uint32_t architecture;  // 75, 90, 120
  uint32_t name_offset, name_bytes;
  uint64_t flags;
};
static_assert(sizeof(FatbinHeader) == 16 && sizeof(FatbinEntry) == 48, "as they lie in the file");
constexpr uint64_t kLz4 = 0x2000, kZstd = 0x8000, kVariantA = 0x100000, kVariantF = 0x200000;

struct FatbinWrapper {
  uint32_t magic, version;
  const void* data;
  const void* file;
};

template <typename T>
T read(const char* at) {
  T it;
  memcpy(&it, at, sizeof(it));
  return it;
}

}  // namespace

bool parse_fatbin(const void* data, size_t limit, std::vector<Image>* images, std::string* why) {
  const char* at = static_cast<const char*>(data);
  const auto refuse = [&](const char* reason) {
    *why = reason;
    return false;
  };
  if (limit < sizeof(FatbinHeader)) return refuse("shorter than its header");
  const auto header = read<FatbinHeader>(at);
  if (header.magic != kFatbinMagic) return refuse("no fatbin magic");
  if (header.header_bytes < sizeof(FatbinHeader) || header.header_bytes > limit || header.bytes > limit - header.header_bytes)
    return refuse("longer than the memory that holds it");
  const char* const end = at + header.header_bytes + header.bytes;
  at += header.header_bytes;
  while (at < end) {
    const size_t left = static_cast<size_t>(end - at);
    if (left < sizeof(FatbinEntry)) return refuse("an entry ends early");
    const auto entry = read<FatbinEntry>(at);
    if (entry.header_bytes < sizeof(FatbinEntry) || entry.header_bytes > left || entry.padded_bytes > left - entry.header_bytes)
      return refuse("an entry is longer than the fatbin");
    if (entry.kind == 1 || entry.kind == 2) {
      const char variant = entry.flags & kVariantA ? 'a' : entry.flags & kVariantF ? 'f' : '\0';
      images->push_back({static_cast<ImageKind>(entry.kind), static_cast<int>(entry.architecture / 10),
                         static_cast<int>(entry.architecture % 10), variant, at + entry.header_bytes, entry.padded_bytes,
                         (entry.flags & (kLz4 | kZstd)) != 0});
    }
    at += entry.header_bytes + entry.padded_bytes;
  }
  return true;
}

Error parse_code(const void* data, std::vector<Image>* images) {
  if (!data) return kInvalidValue;
  const char* bytes = static_cast<const char*>(data);
  const auto magic = read<uint32_t>(bytes);
  std::string why;
  Image image;
  if (magic == kWrapperMagic) return parse_code(read<FatbinWrapper>(bytes).data, images);
  if (magic == kFatbinMagic) return parse_fatbin(data, SIZE_MAX / 2, images, &why) ? kSuccess : kInvalidImage;
  if (memcmp(bytes, "\177ELF", 4) == 0) {
    if (!describe_cubin(bytes, &image)) return kInvalidImage;
  } else if (!describe_ptx(bytes, &image)) {
    return kInvalidPtx;
  }
  images->push_back(image);
  return kSuccess;
}

// SASS runs on the same major and an equal or higher minor; PTX is compiled for anything newer. 'a' fits its own card only, 'f'
// the newer minors of its major
bool runs_on(const Image& image, const Card& card) {
  const bool same_major = image.major == card.major, reached = image.minor <= card.minor;
  if (image.variant == 'a') return same_major && image.minor == card.minor;
  if (image.variant == 'f' || image.kind == ImageKind::kSass) return same_major && reached;
  return image.major < card.major || (same_major && reached);
}

bool kernels_of(const Image& image, std::vector<KernelCode>* kernels) {
  if (image.compressed) return false;
  return image.kind == ImageKind::kSass ? kernels_of_cubin(image, kernels) : kernels_of_ptx(image, kernels);
}

const Image* choose(const std::vector<Image>& images, const Card& card) {
  static const char* const forced = getenv("CUDA_FORCE_PTX_JIT");
  static const bool ptx_alone = forced && strcmp(forced, "1") == 0;
  const Image* best = nullptr;
  for (const Image& image : images) {
    if (!runs_on(image, card) || (ptx_alone && image.kind == ImageKind::kSass)) continue;
    const auto rank = [](const Image& it) { return (it.kind == ImageKind::kSass) * 10000 + it.major * 10 + it.minor; };
    if (!best || rank(image) > rank(*best)) best = &image;
  }
  return best;
}

std::string list(const std::vector<Image>& images) {
  std::string text;
  for (const Image& image : images) {
    text += (text.empty() ? "" : " ") + std::string(image.kind == ImageKind::kSass ? "sm_" : "compute_") +
            std::to_string(image.major * 10 + image.minor);
    if (image.variant) text += image.variant;
  }
  return text;
}

}  // namespace fakecard
