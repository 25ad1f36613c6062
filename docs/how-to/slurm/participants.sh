#!/bin/bash
# One participant per task of an array. Submit with
#   sbatch --array=1-N%LIMIT participants.sh BIDS_DIR OUTPUT_DIR [options of oxybold]
# where N is the number of lines of participants.tsv without its header, or of the file of labels that
# OXYBOLD_LIST names. OXYBOLD may name a container:
#   export OXYBOLD="apptainer run --cleanenv --bind /data:/data oxybold.sif"
#SBATCH --job-name=oxybold
#SBATCH --cpus-per-task=2
#SBATCH --mem=6G
#SBATCH --time=01:00:00
set -euo pipefail
bids_dir=$1 output_dir=$2
shift 2
list=${OXYBOLD_LIST:-$bids_dir/participants.tsv}
skip=$([ -n "${OXYBOLD_LIST:-}" ] && echo 0 || echo 1)
label=$(cut -f1 "$list" | sed -n "$((SLURM_ARRAY_TASK_ID + skip))p")
: "${label:?$list has no line for task $SLURM_ARRAY_TASK_ID}"
# exec: the signal of scancel or of the time limit reaches the app, which ends in order (75)
exec ${OXYBOLD:-oxybold} "$bids_dir" "$output_dir" participant --participant-label "$label" \
  --nprocs "$SLURM_CPUS_PER_TASK" --mem "${SLURM_MEM_PER_NODE}M" "$@"
