#!/bin/bash
# One small job that hands in fifty more and shares the cases among them; deploy/jobqueue.yaml says what each of them gets.
#   sbatch --export=ALL,SCANS=/data/scans,BUNDLE=/data/ct_to_mr,MAPS=/data/maps deploy/slurm/dask.sh
# On PBS the same with "#PBS" lines and --cluster pbs:50.
#SBATCH --job-name=segment-client
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail
: "${SCANS:?folder of the scans}" "${BUNDLE:?folder of the bundle}" "${MAPS:?folder for the label maps}"

exec monai-transfer segment "$SCANS" --bundle "$BUNDLE" --output "$MAPS" --cluster slurm:50 --resume
