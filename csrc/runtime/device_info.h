// What a card is.
#pragma once
#include <c10/core/Device.h>

#include <string>

namespace blackwell_compat::runtime {

struct DeviceInfo {
  std::string name;
  int capability;  // 120 is compute capability 12.0
  int tiles_for;   // the architecture that its kernels' tiles are laid out for, which may be an older one: 1200 is sm_120
  int multiprocessors;
  int shared_bytes_per_block;  // at most, where the kernel asks for it
  int threads_per_multiprocessor;
  bool reads_pageable_memory;  // of the host, by its page tables: GH200, GB10
};

const DeviceInfo& device_info(c10::Device device);

}  // namespace blackwell_compat::runtime
