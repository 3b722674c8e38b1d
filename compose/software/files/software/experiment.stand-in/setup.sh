# To be sourced: gets release 2026.1 of the experiment ready, which is a stand-in for a real one's.
export EXPERIMENT_ROOT=/cvmfs/experiment.stand-in
export EXPERIMENT_RELEASE=2026.1
export PATH="$EXPERIMENT_ROOT/releases/$EXPERIMENT_RELEASE/bin:$PATH"
