// Code for a card: fatbins, cubins (ELF) and PTX, and which card can run which.
#pragma once
#include <string>
#include <vector>

#include "card.h"

namespace fakecard {

enum class ImageKind { kPtx = 1, kSass = 2 };  // the numbers in a fatbin
struct Image {
  ImageKind kind;
  int major, minor;
  char variant;  // 'a': this architecture alone; 'f': its family; 0: newer minors too (PTX: anything newer)
  const char* data;
  size_t bytes;
  bool compressed;
};

constexpr uint32_t kFatbinMagic = 0xBA55ED50, kWrapperMagic = 0x466243B1;

// The images of the fatbin at `data`, of which at most `limit` bytes may be read. False, and why, if it is none
bool parse_fatbin(const void* data, size_t limit, std::vector<Image>* images, std::string* why);
// What a driver is handed: a fatbin, its wrapper, a cubin or PTX. kInvalidImage or kInvalidPtx if it is none of these
Error parse_code(const void* data, std::vector<Image>* images);

bool runs_on(const Image& image, const Card& card);
const Image* choose(const std::vector<Image>& images, const Card& card);  // null: none fits
std::string list(const std::vector<Image>& images);                       // "sm_75 sm_90a compute_90"

struct KernelCode {
  std::string name;
  std::vector<size_t> parameter_bytes;  // one each, in order
};
// The kernels inside; false if the image is compressed or damaged
bool kernels_of(const Image& image, std::vector<KernelCode>* kernels);
// image_elf.cpp. False if `data` is no cubin
bool describe_cubin(const char* data, Image* image);
bool kernels_of_cubin(const Image& image, std::vector<KernelCode>* kernels);
// image_ptx.cpp. False if `text` is no PTX
bool describe_ptx(const char* text, Image* image);
bool kernels_of_ptx(const Image& image, std::vector<KernelCode>* kernels);

}  // namespace fakecard
