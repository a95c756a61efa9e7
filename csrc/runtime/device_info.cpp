// Asked of the driver once.
#include "runtime/device_info.h"

#include <array>
#include <mutex>
#include <optional>

#include "runtime/driver.h"
#include "runtime/kernel_images.h"

namespace blackwell_compat::runtime {
namespace {

// Numbers of CUdevice_attribute
constexpr int kMultiprocessors = 16, kThreadsPerMultiprocessor = 39, kCapabilityMajor = 75, kCapabilityMinor = 76,
              kSharedOptin = 97, kHostPageTables = 100;

DeviceInfo ask(c10::Device device) {
  primary_context(device);
  int handle = 0;
  BC_CU(cuDeviceGet(&handle, device.index()), "Looking for ", device);
  const auto value = [&](int attribute) {
    int found = 0;
    BC_CU(cuDeviceGetAttribute(&found, attribute, handle), "Asking ", device, " for attribute ", attribute);
    return found;
  };
  const int capability = 10 * value(kCapabilityMajor) + value(kCapabilityMinor);
  const int embedded = architecture_of(embedded_for(capability));
  char name[128] = {};
  BC_CU(cuDeviceGetName(name, sizeof name, handle), "Asking ", device, " for its name");
  return {name,
          capability,
          10 * (embedded > 0 ? embedded : capability),
          value(kMultiprocessors),
          value(kSharedOptin),
          value(kThreadsPerMultiprocessor),
          value(kHostPageTables) != 0};
}

}  // namespace

const DeviceInfo& device_info(c10::Device device) {
  static std::array<std::optional<DeviceInfo>, kMostDevices> known;
  static std::array<std::once_flag, kMostDevices> asked;
  const auto index = static_cast<size_t>(device.index());
  std::call_once(asked.at(index), [&] { known[index] = ask(device); });
  return *known[index];
}

}  // namespace blackwell_compat::runtime
