#!/bin/sh
# tools/check_fatbins.sh [WHEEL [CARD [ARCHS]]]: this project built with kernels by nvcc (on the PATH, or CUDACXX) in
# build/fatbins-<wheel>, then compat_linear on the fake card with no NVRTC to be found. Needs `make wheel-<wheel>`.
set -eu
cd "$(dirname "$0")/.."
wheel=${1:-2.4.1} card=${2:-RTX 5090} archs=${3:-75;120}
python=$PWD/.venv-wheels/$wheel/bin/python
build=$PWD/build/fatbins-$wheel
# Not compressed: the fake card does not read that
"$python" -m pip --disable-pip-version-check install --quiet --no-build-isolation --no-deps --upgrade \
  --target "$build/site" --config-settings=build-dir="$build/cmake" \
  --config-settings=cmake.define.BLACKWELL_COMPAT_ARCHS="$archs" \
  --config-settings=cmake.define.BLACKWELL_COMPAT_COMPRESS=OFF .
mkdir -p "$build/plugin"
cat > "$build/plugin/without_nvrtc.py" <<'PY'
"""For pytest: a session in which no NVRTC is found, and the kernels of this build have to serve the card."""


def pytest_sessionstart():
    import torch
    from blackwell_compat import compilers

    compilers._candidates = lambda: iter(())
    assert compilers.compilers() == []
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        serves = compilers.target(capability)
        assert serves.endswith("in this build"), serves
        print(f"cuda:{index}: {serves}, which has {compilers.embedded()}")
PY
export PYTHONPATH="$build/site:$build/plugin:$PWD/tests" BLACKWELL_COMPAT_CACHE_DIR="$build/cache"
"$python" -m pytest -s -p without_nvrtc --card="$card" --wheel="$wheel" tests/card/test_linear_kernel.py
