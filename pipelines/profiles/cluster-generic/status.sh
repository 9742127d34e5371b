#!/bin/sh
# One word about SLURM's job $1: running, success or failed.
state=$(squeue --noheader --states=all --format=%T --jobs "$1" 2>&1) || case "$state" in
  # Forgotten by the controller; where no accounts are kept either, the job is done again, which
  # costs little: the command skips what the store holds.
  *"Invalid job id"*)
    state=$(sacct --noheader --allocations --parsable2 --format=State --jobs "$1" 2>/dev/null) \
      || state=FORGOTTEN ;;
  # The controller is away for a while.
  *) state=PENDING ;;
esac

case "$state" in
  COMPLETED) echo success ;;
  PENDING | CONFIGURING | RUNNING | COMPLETING | STAGE_OUT | SUSPENDED | STOPPED | REQUEUE* | \
    RESIZING | SIGNALING) echo running ;;
  *) echo failed ;;
esac
