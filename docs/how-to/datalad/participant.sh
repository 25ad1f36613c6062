#!/bin/bash
# One participant from a DataLad dataset, in a clone that holds no more than it needs:
#   participant.sh SOURCE OUTPUT_DIR LABEL [options of oxybold]
# SOURCE is the path or address of the dataset. Jobs may run at the same time. After the last one
#   oxybold OUTPUT_DIR OUTPUT_DIR participant --reports-only
# makes the index of all.
set -euo pipefail
source=$1 output_dir=$2 label=$3
shift 3
place=$(mktemp -d)
trap 'chmod -R u+w "$place" && rm -rf "$place"' EXIT
datalad clone "$source" "$place/raw"
find "$place/raw" -maxdepth 1 -name '*.*' -type l -exec datalad get -d "$place/raw" {} +
datalad get -d "$place/raw" "$place/raw/sub-$label"
code=0
${OXYBOLD:-oxybold} "$place/raw" "$place/out" participant --participant-label "$label" "$@" || code=$?
mkdir -p "$output_dir"
cp -r --no-clobber "$place/out/." "$output_dir/"
exit "$code"
