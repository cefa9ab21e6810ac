#!/usr/bin/env bash
# What only a machine with a GPU can tell, in one command and under nine minutes:
#
#     tests/gpu/run.sh                  figures go to $OUT/gpu.json and $OUT/gpu.md, or ./gpu-out
#     tests/gpu/run.sh --device cpu     the same way without a GPU, to see that it works
#
# It needs a python3 (or PYTHON) with torch for CUDA and what `pip install '.[test]'` brings. Where
# nothing can be downloaded, wheels of what is missing may lie in .whl/.
set -u
here=$PWD
cd "$(dirname "$0")/../.." || exit
python=${PYTHON:-python3}
if compgen -G '.whl/*.whl' >/dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" .whl/*.whl
    PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONPATH=$PWD/tests/typing${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
"$python" tests/gpu/run.py --out "${OUT:-$here/gpu-out}" "$@"
