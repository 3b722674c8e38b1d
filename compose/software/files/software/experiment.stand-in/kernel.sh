#!/bin/sh
# A kernel with the experiment's software: kernel.sh CONNECTION_FILE
# shellcheck source=/dev/null
. /cvmfs/experiment.stand-in/setup.sh
exec python -m ipykernel_launcher -f "$1"
