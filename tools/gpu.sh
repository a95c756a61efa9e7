#!/bin/sh
# tools/gpu.sh PYTHON: on a machine with a card, the tests that run on real ones, once more with every kernel compiled from
# PTX by the driver (PyTorch's own fail then), under compute-sanitizer where that is installed, and the benchmarks, which
# write benchmarks/results/gpu_*.json. Goes through all of it, and ends with 1 where any part failed.
set -u
cd "$(dirname "$0")/.."
python=$1
failed=""
tests="tests/card/test_*_kernel.py tests/card/test_kernel_models.py"
checked="tests/card/test_linear_kernel.py tests/card/test_conv1d_kernel.py tests/card/test_conv_transpose1d_kernel.py
  tests/card/test_stft_kernel.py tests/card/test_istft_kernel.py tests/card/test_functions_kernel.py"
part() {
  name=$1
  shift
  printf '\n=== %s\n' "$name"
  "$@" || failed="$failed, $name"
}
part "tests" "$python" -m pytest --gpu $tests
part "tests, kernels from PTX" env CUDA_FORCE_PTX_JIT=1 "$python" -m pytest --gpu $tests
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck synccheck initcheck; do
    part "compute-sanitizer $tool" env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      --kernel-regex kns=compat_ "$python" -m pytest --gpu -x $checked -k "opinfo or backward or activation or split"
  done
else
  echo "no compute-sanitizer here"
fi
for file in benchmarks/gpu_*.py; do
  part "$file" "$python" "$file"
done
[ -z "$failed" ] || { echo "FAILED${failed}"; exit 1; }
