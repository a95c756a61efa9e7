// The kernels that nvcc compiled when this package was built (cmake/fatbins.cmake), and which cards they are for.
#pragma once
#include <string>
#include <vector>

namespace blackwell_compat::runtime {

struct KernelImages {
  std::vector<int> architectures;    // with machine code, 75 is sm_75, ascending; the last has PTX, too. Empty: there are none
  int toolkit;                       // 13000: nvcc of CUDA 13.0
  std::vector<const void*> fatbins;  // one for each of kernel_sources()
};

const KernelImages& kernel_images();

// What of `images` a card of compute `capability` (120 is 12.0) runs: "sm_86", or "compute_120" where no compiler knows the card,
// or "": compile. Nothing of a generation before the card's, whose instructions it lacks. A driver older than the toolkit's major
// version reads none of them.
std::string choose_image(const KernelImages& images, int capability, int driver_version, bool can_compile);

// That, of this build, with the driver and the compilers that are there.
std::string embedded_for(int capability);

// 86 of "sm_86" and "compute_86", 0 of an empty one.
int architecture_of(const std::string& image);

}  // namespace blackwell_compat::runtime
