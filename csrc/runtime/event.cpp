// Handles are made once and used again: making one costs more than a copy of a few bytes.
#include "runtime/event.h"

#include <mutex>
#include <vector>

namespace blackwell_compat::runtime {
namespace {

constexpr unsigned kDisableTiming = 2;  // CU_EVENT_DISABLE_TIMING
constexpr Result kNotReady = 600;       // CUDA_ERROR_NOT_READY

class Handles {
 public:
  std::shared_ptr<void> take(c10::Device device) {
    const auto back = [this, device](void* handle) { give_back(device, handle); };
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      std::vector<void*>& here = free(device);
      if (!here.empty()) {
        void* handle = here.back();
        here.pop_back();
        return {handle, back};
      }
    }
    void* handle = nullptr;
    BC_CU(cuEventCreate(&handle, kDisableTiming), "On ", device);
    return {handle, back};
  }

 private:
  void give_back(c10::Device device, void* handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free(device).push_back(handle);
  }

  std::vector<void*>& free(c10::Device device) {
    const auto index = static_cast<size_t>(device.index());
    if (free_.size() <= index) free_.resize(index + 1);
    return free_[index];
  }

  std::mutex mutex_;
  std::vector<std::vector<void*>> free_;  // by card
};

// Never destroyed: events may outlive static objects, and the driver may be gone at exit
Handles& handles() {
  static Handles* const made = new Handles;
  return *made;
}

}  // namespace

Event::Event(c10::Device device, Stream stream) : device_(device) {
  const UseContext use(device);
  handle_ = handles().take(device);
  BC_CU(cuEventRecord(handle_.get(), stream), "On ", device);
}

// An error is of the stream's work, which has ended then, and shows where its results are asked for
bool Event::passed() const {
  const UseContext use(device_);
  return driver().cuEventQuery(handle_.get()) != kNotReady;
}

void Event::wait() const {
  const UseContext use(device_);
  BC_CU(cuEventSynchronize(handle_.get()), "Waiting for ", device_);
}

void Event::hold(Stream stream) const {
  const UseContext use(device_);
  BC_CU(cuStreamWaitEvent(stream, handle_.get(), 0), "On ", device_);
}

}  // namespace blackwell_compat::runtime
