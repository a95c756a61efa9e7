#!/usr/bin/env bash
# tools/check_torch.sh VERSION...: builds and tests against each torch release, as its wheel on PyPI is (about 5 GB with
# CUDA), and writes the outcome into benchmarks/results/torch-versions.md. One environment at a time, deleted afterwards;
# KEEP=1 keeps it. It needs no GPU: CUDA wheels import without one.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0

check() {
  local version=$1 env=.wheels/$1 log=build/check-torch-$1.log
  mkdir -p .wheels build
  echo "== torch $version: environment $env (log: $log)"
  tools/wheel_env.sh "$version" "$env" || return 1
  echo "== torch $version: build and tests"
  make PYTHON="$PWD/$env/bin/python" test ARGS="-p no:cacheprovider ${PYTEST_ARGS:-}" 2>&1 | tee "$log" | tail -n 5
  "$env/bin/python" tools/torch_versions_table.py "$log" benchmarks/results/torch-versions.md
}

for version in "$@"; do
  check "$version" || { echo "== torch $version: FAILED"; failed=1; }
  [[ -n ${KEEP:-} ]] || rm -rf ".wheels/$version" build/torch-"$version"*
done
exit $failed
