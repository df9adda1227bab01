#!/usr/bin/env bash
# Everything that takes a GPU: the whole test suite with no test skipped, compute-sanitizer, and the measurements, which
# are written to bench/results/ under the card's name.
#
#   bench/gpu.sh [--quick] [--fresh]
#   bench/gpu.sh --minutes N --out FOLDER
#
# --minutes: what a GPU can show in that time, the most useful first (bench/gpu_minutes.py). It installs nothing and
# needs no network; all it says is in at most eight files of FOLDER. NASFAST_PYTHON is python3 by default.
# --quick: smaller measurements, kept out of bench/results/. --fresh: nothing is taken as done before.
# NASFAST_PYTHON=PATH: a Python that has what requirements-dev.txt lists; by default .venv is made with them.
#
# What needs no GPU is done first (building; counting the bytes of every kernel, some twenty minutes on one core), then
# the script says what is missing. A step that was done for the present sources is not done again, so a run that was
# stopped goes on where it was.
set -Eeuo pipefail
for argument in "$@"; do
  case $argument in
    --minutes* | --out*) exec "${NASFAST_PYTHON:-python3}" -P "$(dirname "$0")/gpu_minutes.py" "$@" ;;
  esac
done
cd "$(dirname "$0")/.."

quick=()
fresh=
for argument in "$@"; do
  case $argument in
    --quick) quick=(--quick) ;;
    --fresh) fresh=1 ;;
    *) echo "bench/gpu.sh: unknown argument $argument; expected --quick or --fresh, or --minutes N --out FOLDER" >&2; exit 2 ;;
  esac
done

stop() {
  echo "bench/gpu.sh: $1" >&2
  exit 1
}

current="looking for what it needs"
trap 'echo "bench/gpu.sh: failed at: $current; run it again to go on from there" >&2' ERR

# Once for the present sources (and the card, once it is known).
step() {
  current=$1
  shift
  local stamp
  stamp="$work/done/${current// /-}.$(sources)${quick:+-quick}${card:+-$card}"
  if [ -e "$stamp" ]; then
    echo "== $current: done before"
    return
  fi
  echo "== $current"
  "$@"
  touch "$stamp"
}

# A short sum of all sources, whether committed or not. Results are no source.
sources() {
  {
    list_sources | xargs -0 sha256sum 2>/dev/null || true # git lists a deleted file too
    "$python" -c 'import sys, torch; print(sys.prefix, torch.__version__)'
  } | sha256sum | cut -c1-16
}

list_sources() {
  if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard -z -- . ':!bench/results' ':!*.md'
  else
    find setup.py CMakeLists.txt pyproject.toml csrc nasfast tests bench -type f -not -path '*/results/*' \
      -not -path '*/__pycache__/*' -not -name '*.so' -print0
  fi
}

# The table that a bench prints, on the terminal and in a file that is whole when it exists.
measure() {
  local name=$1
  shift
  "$python" -m "bench.$name" --device cuda ${quick[@]+"${quick[@]}"} --json "$out/$card-$name.json" "$@" |
    tee "$work/$name.partial"
  mv "$work/$name.partial" "$work/$card-$name.md"
}

build() {
  if [ -n "${NASFAST_PYTHON:-}" ]; then
    "$python" setup.py --quiet build_ext --inplace
  else
    make setup
  fi
}

count_traffic() {
  "$python" -m bench.cuda_traffic ${quick[@]+"${quick[@]}"} --json "$traffic"
}

# The ops on the GPU. Without torch's caching allocator every tensor is an allocation of its own, whose ends are checked.
sanitize() {
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 "$sanitizer" --tool "$1" --kernel-name kns=nasfast --error-exitcode 1 \
    "$python" -m pytest -q -o timeout=0 -m gpu
}

table() {
  local name
  {
    echo "# Measured on $card"
    for name in mixed_op network search_step child_eval; do
      printf '\n## python -m bench.%s --device cuda\n' "$name"
      cat "$work/$card-$name.md"
    done
  } >"$out/$card.md.partial"
  mv "$out/$card.md.partial" "$out/$card.md"
  echo "wrote $out/$card.md"
}

work=build/gpu
out=bench/results
if [ ${#quick[@]} -gt 0 ]; then
  out=$work/quick
fi
traffic=$work/traffic${quick:+-quick}.json
card=
python=${NASFAST_PYTHON:-.venv/bin/python}
if [ -n "$fresh" ]; then
  rm -rf "$work/done"
fi
mkdir -p "$work/done" "$out"

# The toolkit, without which there is nothing to build.
export NASFAST_CUDA=1 # building without CUDA is an error
if [ -n "${CUDA_HOME:-}" ]; then
  nvcc=$CUDA_HOME/bin/nvcc
else
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
fi
if [ ! -x "$nvcc" ]; then
  stop "needs the CUDA toolkit: there is no $nvcc; set CUDA_HOME to where it is"
fi
current=build
echo "== build"
build # it knows itself what is up to date
step "counting bytes" count_traffic

# From here on a GPU is needed.
current="looking for a GPU"
missing=()
if ! card=$("$python" -m bench.cuda 2>&1 | tail -n 1); then
  missing+=("${card#bench.cuda: }")
  card=
fi
if ! "$python" -c 'import cupyx' 2>/dev/null; then
  missing+=("no CuPy for the tests of it: $python -m pip install cupy-cuda13x")
fi
sanitizer=$(command -v compute-sanitizer || echo "$(dirname "$nvcc")/compute-sanitizer")
if [ ! -x "$sanitizer" ]; then
  missing+=("compute-sanitizer is neither on PATH nor in $(dirname "$nvcc")")
fi
if ! "$python" -c 'import sys; from tests.helpers import devtools; sys.exit(devtools.find_chromium() is None)'; then
  missing+=("no Chromium for the tests of the report, of which none may be skipped")
fi
if [ ${#missing[@]} -gt 0 ]; then
  list=$(printf '; %s' "${missing[@]}")
  stop "built and counted; to go on it lacks: ${list#; }"
fi

export NASFAST_REQUIRE_CUDA=1 # a skipped test is a failed one
step "tests" "$python" -m pytest -q
step "memcheck" sanitize memcheck
step "racecheck" sanitize racecheck
step "bench mixed_op" measure mixed_op --traffic "$traffic" --compile 600
step "bench network" measure network --traffic "$traffic" --compile 1800
step "bench search_step" measure search_step
step "bench child_eval" measure child_eval
step "table" table
