// Points in the work of a stream.
#pragma once
#include <c10/core/Device.h>

#include <memory>

#include "runtime/driver.h"

namespace blackwell_compat::runtime {

// After all that was given to a stream before. Copies are the same point.
class Event {
 public:
  Event(c10::Device device, Stream stream);

  bool passed() const;
  void wait() const;               // this thread
  void hold(Stream stream) const;  // what comes later in another stream of the card

 private:
  c10::Device device_;
  std::shared_ptr<void> handle_;
};

}  // namespace blackwell_compat::runtime
