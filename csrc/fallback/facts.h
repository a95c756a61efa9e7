// What the fallback knows of an op: read once from its schema and from the tables in facts.cpp.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>

#include <string>
#include <vector>

namespace blackwell_compat::fallback {

// "aten::add.out"
std::string full_name(const c10::OperatorName& name);

struct ArgumentFacts {
  bool written = false;      // by the schema, or although the schema does not say so
  bool overwritten = false;  // as a whole, without being read
  bool host_too = false;     // may be a tensor of the CPU beside others of a card
};

struct OpFacts {
  explicit OpFacts(const c10::OperatorHandle& op);

  std::string name;  // the full one
  std::vector<ArgumentFacts> arguments;
  int dtype_argument = -1;      // the place of an argument `dtype`
  int generator_argument = -1;  // the place of a random op's generator
  bool matrix_product = false;  // many times slower in half precision on a CPU that lacks the instructions
  bool mixes_devices = false;   // takes tensors of the CPU beside those of a card
};

// Whether an op works on a card without kernels, so that its own kernel stays: allocation, views and other metadata.
bool works_without_kernels(const c10::OperatorHandle& op);

// Throws where PyTorch has no kernel of the op for key `host`, saying what to do.
void check_runs_on_host(const c10::OperatorHandle& op, const std::string& name, c10::DispatchKey host);

// Ops without a kernel of their own at the CUDA key that start kernels all the same, through DispatchStub or by type.
const std::vector<std::string>& hidden_launchers();

}  // namespace blackwell_compat::fallback
