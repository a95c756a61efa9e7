#!/usr/bin/env bash
# tools/wheel_env.sh VERSION FOLDER: an environment with that release of torch as its wheel on PyPI is (about 5 GB with CUDA).
# BASE_PYTHON=python3.11 chooses the interpreter. An environment that is there already is left as it is.
set -euo pipefail
version=$1 folder=$2
# The wheels up to 2.4 were built for numpy 1
numpy='numpy'
[[ $version == 2.[0-4].* ]] && numpy='numpy<2'
if [[ ! -e $folder/ready ]]; then
  rm -rf "$folder"
  "${BASE_PYTHON:-python3}" -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir "torch==$version" "$numpy"
  # transformers 5 fails to import under torch 2.4 and 2.5. GPT-2, patched or not, does not compile in one graph: that of 5 in
  # torch 2.6, that of 4.51 in torch 2.4
  case $version in
    2.[0-4].*) transformers='transformers<4.51' ;;
    2.[56].*) transformers='transformers<5' ;;
    *) transformers='' ;;
  esac
  [[ -z $transformers ]] || "$folder/bin/pip" install --quiet --disable-pip-version-check "$transformers"
  touch "$folder/ready"
fi
