// The fallback in the dispatcher: put there, and taken out so that no trace stays.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace blackwell_compat::fallback {

// Puts the fallback over every kernel of the CUDA key that would start a PyTorch kernel. The dispatcher is not safe against
// this while another thread runs an op. Cards with these indices run PyTorch's kernels and keep them (torch 2.13 and newer).
void install(const std::vector<int64_t>& cards_with_kernels);

// Restores what was there.
void uninstall();

bool installed();

// Op -> "fallback", "kept" (works without kernels) or "own" (moves bytes by the driver); empty where it is not installed.
std::map<std::string, std::string> coverage();

}  // namespace blackwell_compat::fallback
