#!/bin/bash
# A batch job that works on a campaign's DFT and light jobs: `sbatch cpu.sh /shared/campaigns/oxides`
# Close to what `nucleate submit` submits by itself, for use by hand. Lines marked <- want a look.

#SBATCH --job-name=nucleate-cpu       # shown by squeue
#SBATCH --partition=debug             # <- queue; `sinfo -o "%P %l %D %c %m %G"` lists them with limits and nodes
##SBATCH --account=chem               # <- who pays, where that is asked for: `sacctmgr show assoc user=$USER`
##SBATCH --qos=normal                 # quality of service, where the centre has several
##SBATCH --reservation=school         # nodes kept for you; `scontrol show reservation`
##SBATCH --constraint=rome            # a kind of node; features are listed by `sinfo -o "%P %f"`
##SBATCH --exclude=n017               # nodes that are known to be bad
#SBATCH --nodes=1                     # jobs of nucleate stay inside a node unless one task spans several (VASP)
#SBATCH --ntasks=2                    # cores. One MPI rank each, so that mpirun finds this many slots
#SBATCH --cpus-per-task=1             # threads of a rank; 1: pw.x is quicker with ranks than with threads
#SBATCH --mem=3G                      # of each node; more than that ends the job as OUT_OF_MEMORY
#SBATCH --time=01:00:00               # wall-time; shorter jobs start sooner, and what can't finish is not begun
#SBATCH --signal=B:TERM@120           # SIGTERM to this script 120 s before that: running jobs end or are given back
#SBATCH --no-requeue                  # SLURM does not start it again after its node died: nucleate knows what to re-run
#SBATCH --open-mode=append            # where requeue is wanted all the same, the log of the first run is kept
#SBATCH --output=nucleate-cpu-%j.log  # %j: the job's id. Relative to where sbatch was called
#SBATCH --propagate=NONE              # a login node's limits (memory, processes) are not the job's
#SBATCH --export=NONE                 # nothing of the terminal's environment; what is needed is set below

unset SLURM_EXPORT_ENV                # else srun and mpirun would start ranks without an environment, too

source /etc/profile                   # so that `module` is there
# <- modules and paths of this cluster
# module load quantum-espresso/7.3
# source /shared/nucleate/.venv/bin/activate

export OMP_NUM_THREADS=1
# exec: signals reach nucleate, and its exit code is the job's. It reads by itself how much wall-time is left.
exec nucleate work -C "${1:?usage: sbatch cpu.sh DIRECTORY-OF-THE-CAMPAIGN}" \
    --processes "$SLURM_NTASKS" --category cpu --category light --grace 100
