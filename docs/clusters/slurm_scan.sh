#!/bin/bash
# A scan as a Slurm job array, merged by a job that waits for all of its tasks.
#
#   bash slurm_scan.sh scan-heads model=meta-llama/Llama-3.2-1B context=32k      submit (on the login node)
#   SHARDS=8 OUT=/scratch/me/llama bash slurm_scan.sh scan-heads model=…         eight shards, folders elsewhere
#   TASKS=3,5 SHARDS=8 bash slurm_scan.sh scan-heads model=…                     these shards again, then the merge
#
# Without sbatch the same shards run here, one after another. OUT must be seen by all nodes, and hold one scan only, else its
# merge finds shards of several questions; without OUT it is a folder for these words and this number of shards.
# The merge has the same resources as a shard: it makes the proof.
#SBATCH --job-name=workbench
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

if [ "${1:-}" = merge ]; then # the job behind the array
    exec workbench "$@"
fi

export SHARDS=${SHARDS:-4}
export OUT=${OUT:-runs/${1:?which scan?}-$(printf '%s\n' "$SHARDS" "$@" | cksum | cut -d' ' -f1)}
me=$(readlink -f "${BASH_SOURCE[0]}")

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then # a task of the array: one shard
    exec workbench "$@" out="$OUT" shard="$SLURM_ARRAY_TASK_ID/$SHARDS"
fi

tasks=${TASKS:-0-$((SHARDS - 1))}
if command -v sbatch >/dev/null; then
    array=$(sbatch --parsable --array="$tasks" "$me" "$@")
    sbatch --dependency="afterok:${array%%;*}" --kill-on-invalid-dep=yes --job-name=workbench-merge --output=%x-%j.log \
        "$me" merge "$OUT"
    echo "shards of array ${array%%;*}, then the merged run: $OUT"
else
    for i in $(seq 0 $((SHARDS - 1))); do
        SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=$SHARDS bash "$me" "$@"
    done
    workbench merge "$OUT"
fi
