#!/bin/bash
# Sixteen shares of the cases as an array of jobs; each starts and ends when it likes, and goes on where it was killed.
#   sbatch --export=ALL,SCANS=/data/scans,BUNDLE=/data/ct_to_mr,MAPS=/data/maps deploy/slurm/shards.sh
#SBATCH --job-name=segment
#SBATCH --array=1-16
#SBATCH --cpus-per-task=2
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
# With GPUs: #SBATCH --gres=gpu:1
set -euo pipefail
: "${SCANS:?folder of the scans}" "${BUNDLE:?folder of the bundle}" "${MAPS:?folder for the label maps}"

# exec: the signal reaches the command itself, which leaves every case whole or absent
exec monai-transfer segment "$SCANS" --bundle "$BUNDLE" --output "$MAPS" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_MAX" --resume
