// Tensor.resize_ on a card: PyTorch's own copies the bytes of the card past the fallback, which may have newer ones.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace blackwell_compat::fallback {

void resize(const at::Tensor& self, c10::IntArrayRef sizes, std::optional<c10::MemoryFormat> format);

}  // namespace blackwell_compat::fallback
