// The fallback in the dispatcher: put there, and taken out so that no trace stays.
#pragma once
#include <map>
#include <string>

namespace blackwell_compat::fallback {

// Puts the fallback over every kernel of the CUDA key that would start a PyTorch kernel. The dispatcher is not safe against
// this while another thread runs an op: throws where one is inside the fallback.
void install();

// Restores what was there.
void uninstall();

bool installed();

// Op -> "fallback", "kept" (works without kernels) or "own" (moves bytes by the driver); empty where it is not installed.
std::map<std::string, std::string> coverage();

}  // namespace blackwell_compat::fallback
