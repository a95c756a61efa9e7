#!/bin/sh
# tools/gpu.sh PYTHON [SECONDS [PART...]]: on a machine with a card, the parts named, or all, in this order:
#   tests        those that run on real cards
#   gpu_...      the benchmarks, which write benchmarks/results/gpu_*.json
#   tests_ptx    the tests with every kernel compiled from PTX by the driver; PyTorch's own fail then
#   memcheck racecheck synccheck initcheck   some tests under compute-sanitizer
# A part that takes too long is stopped, and none begins after SECONDS (an hour). Ends with 1 where any failed, was stopped or was
# left out.
set -u
cd "$(dirname "$0")/.."
python=$1
end=$(($(date +%s) + ${2:-3600}))
only=""
[ $# -le 2 ] || { shift 2; only=" $* "; }
failed=""
own="tests/card/test_linear_kernel.py tests/card/test_conv1d_kernel.py tests/card/test_conv_transpose1d_kernel.py
  tests/card/test_stft_kernel.py tests/card/test_istft_kernel.py tests/card/test_functions_kernel.py"
tests="tests/card/test_*_kernel.py tests/card/test_kernel_models.py"
pytest="$python -m pytest --gpu --continue-on-collection-errors --durations=10"
# Most of a test is the compiler's work and the CPU's, so several share the card
several="--numprocesses=auto --maxprocesses=8 --dist=worksteal"
part() {
  name=$1 most=$2
  shift 2
  case "$only" in "" | *" $name "*) ;; *) return ;; esac
  left=$((end - $(date +%s)))
  [ "$left" -gt 0 ] || { failed="$failed, $name (left out)"; return; }
  printf '\n=== %s\n' "$name"
  timeout --signal=INT --kill-after=20 "$((most < left ? most : left))" "$@" || failed="$failed, $name ($?)"
  echo "=== $name took $((left - end + $(date +%s))) s"
}
part tests 300 env OMP_NUM_THREADS=2 $pytest $several $tests
for name in compat linear conv1d stft precision; do
  part "gpu_$name" 240 "$python" "benchmarks/gpu_$name.py"
done
part tests_ptx 300 env OMP_NUM_THREADS=2 CUDA_FORCE_PTX_JIT=1 $pytest $several $tests
for tool in memcheck racecheck synccheck initcheck; do
  part "$tool" 600 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 9 \
    --kernel-regex kns=compat_ $pytest -x $own -k "opinfo or backward or activation or split"
done
[ -z "$failed" ] || { echo "FAILED${failed}"; exit 1; }
