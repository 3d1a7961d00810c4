#!/usr/bin/env bash
# Makes docs/gallery: reports of generated people, five minutes of processor time.   .ci/gallery.sh [MONAI-TRANSFER]
set -euo pipefail
run=$(realpath -s "${1:-.venv/bin/monai-transfer}")
gallery=$(cd "$(dirname "$0")/.." && pwd)/docs/gallery
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$run" phantom --modality ct --subjects 8 --size 0.6 --seed 1 --output ct
"$run" phantom --modality ct --subjects 4 --first 101 --size 0.6 --seed 1 --output ct_test
"$run" train --data ct --steps 220 --spacing 4 --seed 0 --output ct_bundle
"$run" evaluate --bundle ct_bundle --data ct_test --output scores
"$run" segment ct_test/images --bundle ct_bundle --output labels --preview --statistics
mkdir -p "$gallery"
for page in train:ct_bundle evaluate:scores; do
  sed "s|$folder/||g" "${page#*:}/report.html" >"$gallery/${page%:*}.html" # the maker's folder is nobody's business
done
cp labels/*_101_preview.png "$gallery/preview.png"
cp labels/statistics.csv "$gallery/statistics.csv"
