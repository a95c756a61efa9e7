// Cards from the environment, and what they say of themselves: attributes by number, properties by offset.
#include "card.h"

#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>

namespace fakecard {
namespace {

constexpr int kThreadsPerBlock = 1024, kWarp = 32, kRegisters = 65536, kBlocksPerMultiprocessor = 32;
constexpr int kSharedPerBlock = 49152, kReservedShared = 1024, kConstant = 65536;  // bytes
constexpr int kBlockZ = 64, kGridX = 2147483647, kGridYZ = 65535;

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
  *error = kSuccess;
  switch (attribute) {  // the numbers of cudaDeviceAttr and CUdevice_attribute are the same
    case 1:
    case 2:
    case 3:
      return kThreadsPerBlock;  // threads of a block; block x, y
    case 4:
      return kBlockZ;
    case 5:
      return kGridX;
    case 6:
    case 7:
      return kGridYZ;
    case 8:
      return kSharedPerBlock;
    case 9:
      return kConstant;
    case 10:
      return kWarp;
    case 11:
      return kGridX;  // largest pitch
    case 12:
    case 82:
      return kRegisters;
    case 13:
      return 1500000;  // kHz
    case 14:
      return 512;  // texture alignment
    case 16:
      return card.multiprocessors;
    case 18:
      return card.integrated;
    case 17:
    case 20:
    case 32:
    case 35:
      return 0;  // time limit, compute mode, ECC, TCC
    case 15:
    case 19:
    case 31:
    case 41:
    case 78:
    case 79:
    case 80:
      return 1;  // overlap, mapping, concurrency, unified addresses, ...
    case 33:
      return device + 1;  // PCI bus
    case 34:
    case 50:
      return 0;
    case 36:
      return 9000000;  // memory clock, kHz
    case 37:
      return 512;  // bits
    case 38:
      return static_cast<int>(card.l2);
    case 39:
      return card.threads_per_multiprocessor;
    case 40:
      return 2;  // copy engines
    case 75:
      return card.major;
    case 76:
      return card.minor;
    case 81:
      return static_cast<int>(card.shared_per_multiprocessor);
    case 83:
    case 88:
    case 89:
    case 100:
    case 101:
      return 0;  // managed and pageable memory
    case 84:
    case 85:
    case 86:
      return 0;
    case 87:
      return 64;  // single to double speed
    case 90:
    case 91:
    case 95:
    case 99:
      return 1;  // preemption, registered pointers, cooperative launch, host registration
    case 97:
      return static_cast<int>(card.shared_per_block_optin);
    case 102:
      return 1;  // cuMemMap and its like
    case 103:
    case 104:
    case 105:
    case 128:
      return 0;  // shareable handles
    case 106:
      return kBlocksPerMultiprocessor;
    case 107:
    case 110:
    case 116:
    case 117:
    case 118:
    case 119:
      return 0;
    case 108:
    case 109:
      return static_cast<int>(card.l2 / 2);
    case 111:
      return kReservedShared;
    case 115:
      return 1;  // memory pools
    case 120:
      return card.major >= 9;
    case 121:
    case 122:
    case 123:
    case 124:
    case 125:
    case 126:
    case 127:
    case 129:
    case 130:
    case 131:
    case 132:
      return 0;
    default:
      *error = not_implemented(("device attribute " + std::to_string(attribute)).c_str());
      return 0;
  }
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
