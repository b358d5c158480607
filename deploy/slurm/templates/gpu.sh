#!/bin/bash
# A batch job that samples and pre-relaxes on a GPU: `sbatch gpu.sh /shared/campaigns/oxides`
# Fields that are not explained here are in cpu.sh. Lines marked <- want a look.

#SBATCH --job-name=nucleate-gpu
#SBATCH --partition=debug             # <- one that has GPUs: those with gpu: in `sinfo -o "%P %G"`
##SBATCH --account=chem-gpu           # <- often another one than for CPUs
#SBATCH --nodes=1
#SBATCH --gres=gpu:1                  # GPUs of each node; gpu:a100:1 asks for a kind
#SBATCH --ntasks=1                    # one worker: it fills a GPU by itself, with batches
#SBATCH --cpus-per-task=2             # cores that feed it; --threads below uses them
#SBATCH --mem=3G                      # of the host; memory of the GPU is not asked for
#SBATCH --time=00:30:00
#SBATCH --signal=B:TERM@120
#SBATCH --no-requeue
#SBATCH --open-mode=append
#SBATCH --output=nucleate-gpu-%j.log
#SBATCH --propagate=NONE
#SBATCH --export=NONE

unset SLURM_EXPORT_ENV

source /etc/profile
# <- modules and paths of this cluster
# module load cuda/12.4
# source /shared/nucleate/.venv/bin/activate

# SLURM sets CUDA_VISIBLE_DEVICES to what the job was given: it stays as it is.
exec nucleate work -C "${1:?usage: sbatch gpu.sh DIRECTORY-OF-THE-CAMPAIGN}" \
    --processes 1 --threads "$SLURM_CPUS_PER_TASK" --category gpu --grace 100
