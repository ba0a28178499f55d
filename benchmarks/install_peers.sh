#!/usr/bin/env bash
# One environment per peer, so that none meets another's dependencies.
#
#   benchmarks/install_peers.sh DIR [VENV]      VENV: where windtunnel and vLLM are (.venv)
#
# PYTHON312 names a Python 3.12, which inference-perf 0.7.0 asks for (default: python3.12).
set -euo pipefail
peers=$(mkdir -p "$1" && cd "$1" && pwd)
venv=${2:-.venv}

for name in aiperf guidellm; do
  "$venv/bin/python" -m venv "$peers/$name"
done
"${PYTHON312:-python3.12}" -m venv "$peers/inference-perf"
"$peers/guidellm/bin/pip" install torch==2.13.0 # or it takes a build for GPUs
"$peers/guidellm/bin/pip" install guidellm==0.8.1
"$peers/aiperf/bin/pip" install aiperf==0.13.0
"$peers/inference-perf/bin/pip" install inference-perf==0.7.0

# A tokenizer that downloads nothing, the same for all.
"$venv/bin/windtunnel" model make --preset tiny-llama "$peers/model"

# The `vllm` command asks for the version of a distribution of that name; the wheel for CPUs has
# another. Only its name is lent.
info="$peers/vllm-name/vllm-0.32.0+cpu.dist-info"
mkdir -p "$info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$info/METADATA"
