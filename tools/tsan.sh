#!/bin/sh
# tools/tsan.sh [WHEEL]: tests/card/test_fallback_threads.py with this extension under ThreadSanitizer, on the fake card.
# The extension alone is instrumented, in build/tsan-<wheel>; the sanitizer comes by preload into the wheel's Python and torch,
# whose own accesses it does not see. Needs `make wheel-<wheel>` and GCC's libtsan. Ends with 66 where a race was found.
set -eu
cd "$(dirname "$0")/.."
wheel=${1:-2.4.1}
python=$PWD/.venv-wheels/$wheel/bin/python
build=$PWD/build/tsan-$wheel
"$python" -m pip --disable-pip-version-check install --quiet --no-build-isolation --no-deps --upgrade \
  --target "$build/site" --config-settings=build-dir="$build/cmake" \
  --config-settings=cmake.define.CMAKE_CXX_FLAGS="-fsanitize=thread -g1" \
  --config-settings=cmake.define.CMAKE_MODULE_LINKER_FLAGS=-fsanitize=thread .
export BLACKWELL_COMPAT_FALLBACK=silent PYTHONPATH="$build/site:$PWD/tests"
export OMP_NUM_THREADS=1 # it does not see the barriers of libgomp, between whose threads everything would be a race
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66 ${TSAN_OPTIONS:-}"
# Without address randomization, for which this libtsan has no room
exec "$python" -c '
import os, sys, fakecard
wheel, preload = sys.argv[1:]
environment = fakecard.environment("RTX 5090", wheel)
environment["LD_PRELOAD"] = preload + ":" + environment["LD_PRELOAD"]
command = ["setarch", "-R", sys.executable, "-m", "pytest", "-s", "tests/card/test_fallback_threads.py"]
os.execvpe(command[0], command, environment)
' "$wheel" "$(g++ -print-file-name=libtsan.so.2)"
