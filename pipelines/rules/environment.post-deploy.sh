#!/usr/bin/env bash
# Run by Snakemake in the folder of the workflow, once the conda environment is made.
set -euo pipefail
python -m pip install .
