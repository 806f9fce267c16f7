#!/usr/bin/env bash
# Everything that needs a card, in one call: OUT=FOLDER bash benchmarks/gpu/everything.sh [STAGE...]
# Stages: tests, tables, serve, slow. Each has its own limit, so that one that hangs costs no other its turn.
set -u
out=${OUT:-data/gpu}
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

stage() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 begun=$SECONDS
  shift 2
  timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>&1
  echo "== $name: exit $? after $((SECONDS - begun)) s"
  tail -n "${LINES_SHOWN:-40}" "$out/$name.log"
}

serve() { # the paper's size over HTTP: capacity, and half again as much
  python3 -m benchmarks.gpu.paper_bundle "$1/paper" &&
    python3 -m benchmarks.load --model "$1/paper" --seconds 10 --idle-s 1 --loads 0.8,1.5 --json "$out/load.json"
}
export -f serve
export out

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
for name in ${*:-tests tables serve slow}; do
  case $name in
    tests) stage tests 300 python3 -m pytest -q -rA --durations 8 --noconftest -p no:cacheprovider -c /dev/null --rootdir . tests/gpu ;;
    tables) stage tables 120 python3 -m benchmarks.gpu --json "$out/tables.json" --only prior --only overhead \
      --only sampling --only agreement --only deterministic --only memory ;;
    serve) stage serve 120 bash -c 'serve "$(mktemp -d)"' ;;
    slow) stage slow 300 python3 -m benchmarks.gpu --json "$out/slow.json" --only in-order --only decoders ;;
    *) echo "there is no stage $name" >&2 && exit 2 ;;
  esac
done
