// A file per key, named by its hash: magic, lengths, checksum, the key itself, the code.
#include "runtime/kernel_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace blackwell_compat::runtime {
namespace {

constexpr mode_t kOwnerOnly = 0700;
constexpr mode_t kOthersWrite = 0022;

struct Header {
  char magic[8];
  uint64_t key_bytes, code_bytes, checksum;
};
constexpr char kMagic[8] = {'B', 'C', 'K', 'E', 'R', 'N', '0', '1'};

// FNV-1a
uint64_t hash(const std::string& text, uint64_t seed = 0xcbf29ce484222325ULL) {
  for (const char c : text) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return seed;
}

Header header_of(const std::string& key, const std::string& code) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.key_bytes = key.size();
  header.code_bytes = code.size();
  header.checksum = hash(code, hash(key));
  return header;
}

class File {
 public:
  File(const std::string& path, int flags, mode_t mode = 0) : descriptor_(open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~File() { close_it(); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  bool status(struct stat& result) const { return fstat(descriptor_, &result) == 0; }
  bool sync() const { return fsync(descriptor_) == 0; }

  bool close_it() {
    const bool fine = descriptor_ < 0 || close(descriptor_) == 0;
    descriptor_ = -1;
    return fine;
  }

  bool write_all(const void* data, size_t bytes) const {
    const auto* from = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t done = write(descriptor_, from, bytes);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return false;
      from += done;
      bytes -= static_cast<size_t>(done);
    }
    return true;
  }

  bool read_all(void* data, size_t bytes) const {
    auto* to = static_cast<char*>(data);
    while (bytes > 0) {
      const ssize_t done = read(descriptor_, to, bytes);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return false;
      to += done;
      bytes -= static_cast<size_t>(done);
    }
    return true;
  }

 private:
  int descriptor_;
};

bool make_folders(const std::string& path) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (mkdir(part.c_str(), kOwnerOnly) != 0 && errno != EEXIST && access(part.c_str(), X_OK) != 0) return false;
    if (end == std::string::npos) return true;
  }
}

bool is_ours(const struct stat& it) { return it.st_uid == geteuid() && (it.st_mode & kOthersWrite) == 0; }

std::string path_of(const std::string& folder, const std::string& key) {
  char name[40];
  std::snprintf(name, sizeof name, "/%016llx.kernel", static_cast<unsigned long long>(hash(key)));
  return folder + name;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

std::string cache_folder() {
  std::string folder = environment("BLACKWELL_COMPAT_CACHE_DIR");
  if (folder.empty()) {
    std::string caches = environment("XDG_CACHE_HOME");
    if (caches.empty() && !environment("HOME").empty()) caches = environment("HOME") + "/.cache";
    if (caches.empty()) return "";
    folder = caches + "/blackwell_compat";
  }
  struct stat found{};
  if (!make_folders(folder) || stat(folder.c_str(), &found) != 0 || !S_ISDIR(found.st_mode) || !is_ours(found)) return "";
  return folder;
}

std::optional<std::string> find_kernel(const std::string& key) {
  const std::string folder = cache_folder();
  if (folder.empty()) return std::nullopt;
  const File file(path_of(folder, key), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat status{};
  Header header{};
  if (!file.is_open() || !file.status(status) || !S_ISREG(status.st_mode) || !is_ours(status)) return std::nullopt;
  if (!file.read_all(&header, sizeof header) || header.key_bytes != key.size()) return std::nullopt;
  if (static_cast<uint64_t>(status.st_size) != sizeof header + header.key_bytes + header.code_bytes) return std::nullopt;
  std::string kept(header.key_bytes, '\0'), code(header.code_bytes, '\0');
  if (!file.read_all(kept.data(), kept.size()) || !file.read_all(code.data(), code.size()) || kept != key) return std::nullopt;
  const Header wanted = header_of(key, code);
  if (std::memcmp(&header, &wanted, sizeof header) != 0) return std::nullopt;
  return code;
}

void keep_kernel(const std::string& key, const std::string& code) {
  static std::atomic<unsigned> count = 0;
  const std::string folder = cache_folder();
  if (folder.empty()) return;
  const std::string path = path_of(folder, key);
  const std::string temporary = path + "." + std::to_string(getpid()) + "." + std::to_string(count++);
  File file(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file.is_open()) return;
  const Header header = header_of(key, code);
  const bool written = file.write_all(&header, sizeof header) && file.write_all(key.data(), key.size()) &&
                       file.write_all(code.data(), code.size()) && file.sync() && file.close_it();
  if (!written || std::rename(temporary.c_str(), path.c_str()) != 0) unlink(temporary.c_str());
}

}  // namespace blackwell_compat::runtime
