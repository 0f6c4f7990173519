#!/bin/bash
# A scan as a Slurm job array, merged by a job that waits for all of its tasks.
#
#   bash slurm_scan.sh scan-heads model=meta-llama/Llama-3.2-1B context=32k      submit (on the login node)
#   SHARDS=8 OUT=/scratch/me/runs bash slurm_scan.sh scan-heads model=…          eight shards, folders elsewhere
#   TASKS=3,5 SHARDS=8 bash slurm_scan.sh scan-heads model=…                     these shards again, then the merge
#
# Without sbatch the same shards run here, one after another. OUT must be seen by all nodes.
#SBATCH --job-name=workbench
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --output=%x-%A_%a.log
set -euo pipefail

export SHARDS=${SHARDS:-4} OUT=${OUT:-runs}
me=$(readlink -f "${BASH_SOURCE[0]}")

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then # a task of the array: one shard
    exec workbench "$@" out="$OUT" shard="$SLURM_ARRAY_TASK_ID/$SHARDS"
fi

tasks=${TASKS:-0-$((SHARDS - 1))}
if command -v sbatch >/dev/null; then
    array=$(sbatch --parsable --array="$tasks" "$me" "$@")
    sbatch --dependency="afterok:${array%%;*}" --job-name=workbench-merge --wrap="workbench merge $(printf %q "$OUT")"
else
    for i in $(seq 0 $((SHARDS - 1))); do
        SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=$SHARDS bash "$me" "$@"
    done
    workbench merge "$OUT"
fi
