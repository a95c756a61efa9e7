// Teams of threads that share a row. What the host and the card share.
#pragma once

namespace blackwell_compat {

constexpr int kRowValues = 16;  // that a thread has of a row at a time
constexpr int kMostTeam = 512, kTeamSharedBytes = kMostTeam / 32 * 8;

// Half as many for double, whose values take twice the registers
constexpr int most_team(int element) { return element == 8 ? kMostTeam / 2 : kMostTeam; }

// Launch bounds of a kernel that keeps a row in registers: more threads than a team has, since the fewer registers, the more
// blocks are on a multiprocessor, each at another part of its row; less than where sm_90 does without local memory, and others do
// not.
constexpr int row_bounds(int threads, int architecture) {
  if (architecture == 900) return threads;
  return architecture == 1000 || architecture == 1030 ? kMostTeam : threads == 1024 ? 768 : 640;
}

// Threads that have a row of n values in their registers, `values` each, if there can be so many
constexpr int team_of(long long n, int element, int values = kRowValues) {
  int size = 1;
  while (size < most_team(element) && size * values < n) size *= 2;
  return size;
}

// Blocks that go over columns: so many threads, of which a power of two from kLeastColumns on has a column each at a time
constexpr int kColumnThreads = 256, kLeastColumns = 32, kColumnSharedBytes = kColumnThreads * 8;

constexpr int columns_of(long long n) {
  int columns = kLeastColumns;
  while (columns < kColumnThreads && kColumnThreads / columns * 4 > n) columns *= 2;
  return columns;
}

}  // namespace blackwell_compat
