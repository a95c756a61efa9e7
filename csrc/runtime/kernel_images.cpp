// The choice between what was compiled when this package was built and what NVRTC compiles.
#include "runtime/kernel_images.h"

#include "runtime/compiler.h"
#include "runtime/driver.h"

namespace blackwell_compat::runtime {
namespace {

// Kernels and their launches branch where tensor cores change, by the architecture and by the card: both have to come out alike
int generation(int architecture) { return architecture >= 80 ? 3 : architecture >= 75 ? 2 : architecture >= 70 ? 1 : 0; }

}  // namespace

std::string choose_image(const KernelImages& images, int capability, int driver_version, bool can_compile) {
  if (images.architectures.empty() || driver_version / 1000 < images.toolkit / 1000) return "";
  const auto fits = [&](int architecture) {
    return architecture <= capability && generation(architecture) == generation(capability);
  };
  int best = 0;
  for (const int architecture : images.architectures) {
    if (architecture / 10 == capability / 10 && fits(architecture)) best = architecture;
  }
  if (best > 0) return "sm_" + std::to_string(best);
  const int newest = images.architectures.back();
  return fits(newest) && !can_compile ? "compute_" + std::to_string(newest) : "";
}

int architecture_of(const std::string& image) { return image.empty() ? 0 : std::stoi(image.substr(image.find('_') + 1)); }

std::string embedded_for(int capability) {
  const KernelImages& images = kernel_images();
  if (images.architectures.empty()) return "";
  int driver_version = images.toolkit;  // without a driver nothing runs, and the answer is for who asks what would
  if (has_driver()) BC_CU(cuDriverGetVersion(&driver_version), "Choosing kernels");
  return choose_image(images, capability, driver_version, find_target(capability).has_value());
}

}  // namespace blackwell_compat::runtime
