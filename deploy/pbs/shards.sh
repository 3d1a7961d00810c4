#!/bin/bash
# Sixteen shares of the cases as an array of jobs; a job that was killed goes on when it is handed in again.
#   qsub -v SCANS=/data/scans,BUNDLE=/data/ct_to_mr,MAPS=/data/maps deploy/pbs/shards.sh
#PBS -N segment
#PBS -J 1-16
#PBS -l select=1:ncpus=2:mem=16gb
#PBS -l walltime=04:00:00
#PBS -r y
set -euo pipefail
: "${SCANS:?folder of the scans}" "${BUNDLE:?folder of the bundle}" "${MAPS:?folder for the label maps}"

exec monai-transfer segment "$SCANS" --bundle "$BUNDLE" --output "$MAPS" --shard "$PBS_ARRAY_INDEX/16" --resume
