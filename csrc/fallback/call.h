// One call of an op, carried out on the host: which bytes come down, what goes back up, and what results alias.
#pragma once
#include <ATen/ATen.h>

#include <string>
#include <utility>

#include "fallback/facts.h"

namespace blackwell_compat::fallback {

// Per storage, not per tensor: views of one storage share host memory, so that aliases see each other's writes.
class Call {
 public:
  explicit Call(const std::string& op) : op_(op) {}
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // 1. Every tensor of the arguments.
  void bind(const at::Tensor& tensor, ArgumentFacts facts);
  // What the op takes as `device`.
  void bind(c10::Device device) { asked_ = device; }

  // 2. Brings what is read to the host. Throws where tensors lie on several devices, unless the op may mix them.
  void bring(bool mixes_devices);

  // 3. The host tensor that stands for an argument.
  at::Tensor host(const at::Tensor& tensor) const;

  // 4. After the op: what was written goes to the device.
  void write_back();

  // 5. The device tensor that stands for a result: an argument itself, a view of one, or new.
  at::Tensor device(const at::Tensor& result);

  // The card of the call: the one asked for, that of the tensors, or the current one.
  c10::Device device() const;

 private:
  struct Bound {
    at::Tensor device, host;
    bool written, overwritten;
    int64_t offset;                               // host.storage_offset() before the op
    c10::SmallVector<int64_t, 6> sizes, strides;  // before the op
  };
  struct Span {
    c10::StorageImpl* storage;
    int64_t begin, end;  // bytes of the storage that the host memory stands for
    bool read;           // has to come down
    bool written;        // by the op
    bool shadowed;       // the host memory is a shadow
    c10::Storage host;
    int64_t dirty_begin, dirty_end;
  };

  Span& span_of(const at::Tensor& tensor);
  const Bound* bound_device(const at::Tensor& tensor) const;
  void bring(Span& span);
  void upload_resized(Bound& bound);

  const std::string& op_;
  c10::SmallVector<Bound, 8> bound_;
  c10::SmallVector<Span, 8> spans_;
  c10::SmallVector<std::pair<c10::StorageImpl*, c10::Storage>, 4> made_;  // host storages of results and their device storages
  std::optional<c10::Device> asked_;
  c10::SmallVector<at::Tensor, 2> of_host_;  // arguments that are tensors of the CPU
  bool stranger_ = false;                    // one of them, with dimensions, has no business beside tensors of a card
  bool written_back_ = false;
};

// The bytes of its storage that a tensor reaches.
std::pair<int64_t, int64_t> extent(const at::Tensor& tensor);

}  // namespace blackwell_compat::fallback
