// oneDNN, which computes bfloat16 and float16 where the CPU can: engine, streams, data types, a bounded cache of primitives.
#pragma once
#include <ATen/ATen.h>

#include <array>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string>
#include <unordered_map>

#include "common/activation.h"
#include "common/cpu.h"

namespace blackwell_compat::onednn {

const dnnl::engine& engine();
dnnl::stream& stream();  // of the calling thread

dnnl::memory::data_type data_type(at::ScalarType dtype);

// Appends `activation` to the operations that a primitive does on its result.
void append_activation(dnnl::post_ops& ops, Activation activation);

// Arguments that fix a primitive: sizes, dtype, post-ops, threads.
using Key = std::array<int64_t, 16>;

// A number as a part of a key.
inline int64_t bits(double value) {
  int64_t as_integer;
  std::memcpy(&as_integer, &value, sizeof(value));
  return as_integer;
}

struct KeyHash {
  size_t operator()(const Key& key) const {
    size_t h = 0;
    for (int64_t v : key) h = (h ^ static_cast<size_t>(v)) * 0x9E3779B97F4A7C15ull + (h >> 29);
    return h;
  }
};

// A primitive ready to run, with its layouts. Shared by threads: execution changes nothing in it.
struct Primitive {
  dnnl::primitive primitive;
  dnnl::memory::desc src, weights, bias, dst, scratchpad;
  bool reference = false;  // a plain loop, for want of a fast kernel
};

// Least recently used entries go first. Creating a primitive generates code (0.2 to 5 ms), finding one takes under 0.1 us.
class PrimitiveCache {
 public:
  explicit PrimitiveCache(size_t capacity) : capacity_(capacity) {}

  template <typename Make>
  std::shared_ptr<const Primitive> get(const Key& key, Make&& make) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (auto found = find(key)) return found;
    }
    auto made = std::make_shared<const Primitive>(make());  // outside the lock: other shapes go on meanwhile
    std::lock_guard<std::mutex> lock(mutex_);
    if (auto found = find(key)) return found;
    ++created_;
    entries_.emplace_front(key, made);
    index_[key] = entries_.begin();
    if (entries_.size() > capacity_) {
      index_.erase(entries_.back().first);
      entries_.pop_back();
    }
    return made;
  }

  size_t size() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return entries_.size();
  }
  size_t created() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return created_;
  }
  size_t capacity() const { return capacity_; }
  void clear() {
    std::lock_guard<std::mutex> lock(mutex_);
    entries_.clear();
    index_.clear();
  }

 private:
  using Entry = std::pair<Key, std::shared_ptr<const Primitive>>;

  std::shared_ptr<const Primitive> find(const Key& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return found->second->second;
  }

  const size_t capacity_;
  size_t created_ = 0;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;
  std::unordered_map<Key, std::list<Entry>::iterator, KeyHash> index_;
};

PrimitiveCache& primitives();

// Runs a primitive with one source, weights, perhaps a bias (else null), and one destination, in the calling thread.
void run(const Primitive& made, void* source, void* weights, void* bias, void* target);

// Copies `weight`, described by `from` (plain, any strides), into a new buffer laid out as `to`.
at::Tensor reorder(const at::Tensor& weight, const dnnl::memory::desc& from, const dnnl::memory::desc& to);

// While it lives, primitives created by this thread use one thread.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

}  // namespace blackwell_compat::onednn
