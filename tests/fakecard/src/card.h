// The cards of this process, as the environment describes them.
#pragma once
#include <string>
#include <vector>

#include "core.h"

namespace fakecard {

struct Card {
  std::string name;
  int major = 0, minor = 0;
  size_t memory = 0;  // bytes
  int multiprocessors = 1;
  int threads_per_multiprocessor = 2048;
  size_t shared_per_block_optin = 49152, shared_per_multiprocessor = 65536, l2 = 4 << 20;  // bytes
  int integrated = 0;
};

// FAKECARD_CARDS: cards separated by ';', each as "name=...,major=12,minor=0,memory=..."; read once. Throws on a word it does
// not know, so that a typing error is not taken for a default
const std::vector<Card>& cards();
std::vector<Card> parse_cards(const std::string& text);

struct Settings {
  std::atomic<long> latency_us{
      0};  // 0: streams finish before the call returns; else a worker thread runs each operation this late
  std::atomic<long> bus_mb_per_s{0};    // between host and card; 0: as fast as memory is copied
  std::atomic<bool> peer{true};         // whether cards may read each other's memory
  std::atomic<size_t> memory_limit{0};  // bytes a card hands out at most; 0: all it has
  std::atomic<int> runtime_version, driver_version;
};
Settings& settings();

bool device_exists(int device);
int device_attribute(const Card& card, int device, int attribute, Error* error);
void fill_properties(const Card& card, int device, void* properties);

}  // namespace fakecard
