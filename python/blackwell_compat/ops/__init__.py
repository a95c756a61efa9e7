"""The operators as functions: one module an operator, registered in torch.ops.blackwell_compat."""
