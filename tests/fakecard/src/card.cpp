// Cards from the environment, and what they say of themselves: attributes by number, properties by offset.
#include "card.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>
#include <stdexcept>

namespace fakecard {
namespace {

constexpr int kThreadsPerBlock = 1024, kWarp = 32, kRegisters = 65536, kBlocksPerMultiprocessor = 32;
constexpr int kSharedPerBlock = 49152, kReservedShared = 1024, kConstant = 65536;  // bytes
constexpr int kBlockZ = 64, kGridX = 2147483647, kGridYZ = 65535;

// clang-format off: several to a line
const std::map<int, int>& kOfAllCards = *new std::map<int, int>{
    {1, kThreadsPerBlock}, {2, kThreadsPerBlock}, {3, kThreadsPerBlock}, {4, kBlockZ},
    {5, kGridX}, {6, kGridYZ}, {7, kGridYZ},
    {8, kSharedPerBlock}, {9, kConstant}, {10, kWarp},
    {11, kGridX},  // pitch
    {12, kRegisters}, {82, kRegisters},
    {13, 1500000}, {36, 9000000},  // clocks, kHz
    {14, 512}, {37, 512},          // texture alignment, bytes; memory bus, bits
    {40, 2}, {87, 64},             // copy engines; single to double speed
    {106, kBlocksPerMultiprocessor}, {111, kReservedShared},
    // Can do: overlap, map host memory, concurrent kernels, unified addresses, priorities, caches, preemption, registered
    // pointers, cooperative launches, register host memory, cuMemMap, memory pools
    {15, 1}, {19, 1}, {31, 1}, {41, 1}, {78, 1}, {79, 1}, {80, 1}, {90, 1}, {91, 1}, {95, 1}, {99, 1}, {102, 1}, {115, 1},
    // Has not, or 0: time limit, compute mode, ECC, PCI device and domain, TCC; managed and pageable memory; boards of several
    // cards; shareable handles, compression, RDMA, arrays, NUMA, multicast
    {17, 0}, {20, 0}, {32, 0}, {34, 0}, {35, 0}, {50, 0}, {83, 0}, {84, 0}, {85, 0}, {86, 0}, {88, 0}, {89, 0},
    {101, 0}, {103, 0}, {104, 0}, {105, 0}, {107, 0}, {110, 0}, {116, 0}, {117, 0}, {118, 0}, {119, 0}, {121, 0}, {122, 0},
    {123, 0}, {124, 0}, {125, 0}, {126, 0}, {127, 0}, {128, 0}, {129, 0}, {130, 0}, {131, 0}, {132, 0}};
// clang-format on

// Where the fields of cudaDeviceProp lie, per CUDA major
#if FAKECARD_CUDA == 12
constexpr size_t kPropertiesBytes = 1032;
#define AT(twelve, thirteen) twelve
#elif FAKECARD_CUDA == 13
constexpr size_t kPropertiesBytes = 1008;
#define AT(twelve, thirteen) thirteen
#else
#error "FAKECARD_CUDA must be 12 or 13"
#endif

template <typename T>
void put(void* properties, size_t offset, T value) {
  memcpy(static_cast<char*>(properties) + offset, &value, sizeof(value));
}

long number_from(const char* variable, long otherwise) {
  const char* text = getenv(variable);
  return text && *text ? strtol(text, nullptr, 10) : otherwise;
}

}  // namespace

std::vector<Card> parse_cards(const std::string& text) {
  std::vector<Card> found;
  std::istringstream list(text);
  for (std::string one; std::getline(list, one, ';');) {
    Card card;
    std::istringstream fields(one);
    for (std::string field; std::getline(fields, field, ',');) {
      const size_t equals = field.find('=');
      const std::string key = field.substr(0, equals);
      const std::string value = equals == std::string::npos ? "" : field.substr(equals + 1);
      const auto integer = [&] { return std::stoi(value); };
      const auto size = [&] { return static_cast<size_t>(std::stoull(value)); };
      if (key == "name")
        card.name = value;
      else if (key == "major")
        card.major = integer();
      else if (key == "minor")
        card.minor = integer();
      else if (key == "memory")
        card.memory = size();
      else if (key == "multiprocessors")
        card.multiprocessors = integer();
      else if (key == "threads_per_multiprocessor")
        card.threads_per_multiprocessor = integer();
      else if (key == "shared_per_block_optin")
        card.shared_per_block_optin = size();
      else if (key == "shared_per_multiprocessor")
        card.shared_per_multiprocessor = size();
      else if (key == "l2")
        card.l2 = size();
      else if (key == "integrated")
        card.integrated = integer();
      else
        throw std::invalid_argument("fakecard: FAKECARD_CARDS has the unknown word '" + key + "'");
    }
    if (card.name.empty() || !card.major || !card.memory)
      throw std::invalid_argument("fakecard: a card needs name, major and memory, got '" + one + "'");
    found.push_back(card);
  }
  return found;
}

const std::vector<Card>& cards() {
  static const std::vector<Card>& it = *new std::vector<Card>([] {
    const char* text = getenv("FAKECARD_CARDS");
    return parse_cards(text ? text : "");
  }());
  return it;
}

Settings& settings() {
  static Settings& it = *[] {
    Settings* made = new Settings;
    made->latency_us = number_from("FAKECARD_LATENCY_US", 0);
    made->bus_mb_per_s = number_from("FAKECARD_BUS_MB_PER_S", 0);
    made->peer = number_from("FAKECARD_PEER", 1) != 0;
    made->memory_limit = static_cast<size_t>(number_from("FAKECARD_MEMORY_LIMIT", 0));
    made->runtime_version = static_cast<int>(number_from("FAKECARD_RUNTIME", FAKECARD_CUDA * 1000));
    made->driver_version = static_cast<int>(number_from("FAKECARD_DRIVER", 13020));
    return made;
  }();
  return it;
}

bool device_exists(int device) { return device >= 0 && static_cast<size_t>(device) < cards().size(); }

int device_attribute(const Card& card, int device, int attribute, Error* error) {
  // The numbers of cudaDeviceAttr and CUdevice_attribute are the same
  const std::map<int, int> of_the_card = {{16, card.multiprocessors},
                                          {18, card.integrated},
                                          {100, card.integrated},  // pageable memory by the host's page tables
                                          {33, device + 1},        // PCI bus
                                          {38, static_cast<int>(card.l2)},
                                          {39, card.threads_per_multiprocessor},
                                          {75, card.major},
                                          {76, card.minor},
                                          {81, static_cast<int>(card.shared_per_multiprocessor)},
                                          {97, static_cast<int>(card.shared_per_block_optin)},
                                          {108, static_cast<int>(card.l2 / 2)},  // of the cache, what can be kept
                                          {109, static_cast<int>(card.l2 / 2)},
                                          {120, card.major >= 9}};  // clusters
  *error = kSuccess;
  const auto found = of_the_card.find(attribute);
  if (found != of_the_card.end()) return found->second;
  const auto same = kOfAllCards.find(attribute);
  if (same != kOfAllCards.end()) return same->second;
  *error = not_implemented(("device attribute " + std::to_string(attribute)).c_str());
  return 0;
}

void fill_properties(const Card& card, int device, void* p) {
  memset(p, 0, kPropertiesBytes);
  strncpy(static_cast<char*>(p), card.name.c_str(), 255);
  static_cast<char*>(p)[256 + 15] = static_cast<char>(device + 1);  // uuid
  put<size_t>(p, 288, card.memory);
  put<size_t>(p, 296, kSharedPerBlock);
  put(p, 304, kRegisters);
  put(p, 308, kWarp);
  put<size_t>(p, 312, kGridX);  // pitch
  put(p, 320, kThreadsPerBlock);
  const int block[] = {kThreadsPerBlock, kThreadsPerBlock, kBlockZ}, grid[] = {kGridX, kGridYZ, kGridYZ};
  memcpy(static_cast<char*>(p) + 324, block, sizeof(block));
  memcpy(static_cast<char*>(p) + 336, grid, sizeof(grid));
  put<size_t>(p, 352, kConstant);
  put(p, 360, card.major);
  put(p, 364, card.minor);
  put<size_t>(p, 368, 512);  // texture alignment
  put<size_t>(p, 376, 32);   // texture pitch alignment
  put(p, AT(388, 384), card.multiprocessors);
  put(p, AT(396, 388), card.integrated);
  put(p, AT(400, 392), 1);           // host memory can be mapped
  put(p, AT(576, 560), 1);           // concurrent kernels
  put(p, AT(584, 568), device + 1);  // PCI bus
  put(p, AT(600, 584), 2);           // copy engines
  put(p, AT(604, 588), 1);           // unified addresses
  put(p, AT(612, 592), 512);         // memory bus, bits
  put(p, AT(616, 596), static_cast<int>(card.l2));
  put(p, AT(624, 604), card.threads_per_multiprocessor);
  put(p, AT(628, 608), 1);  // stream priorities
  put<size_t>(p, AT(640, 624), card.shared_per_multiprocessor);
  put(p, AT(648, 632), kRegisters);
  put(p, AT(688, 668), 1);  // cooperative launch
  put<size_t>(p, AT(696, 672), card.shared_per_block_optin);
  put(p, AT(712, 688), kBlocksPerMultiprocessor);
  put<size_t>(p, AT(720, 696), kReservedShared);
  put(p, AT(728, 704), 1);  // host memory can be registered
  put(p, AT(744, 720), 1);  // memory pools
}

}  // namespace fakecard
