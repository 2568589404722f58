"""What tries to break the library: kills, full disks, damaged files, hostile folders and options, threads.

Small in `make test`; `make attack` runs them at length (about an hour), prints what it counted and writes it
to `benchmarks/results/attack.json`. `PPL_VAE_ATTACK=0.2 python -m pytest tests/attacks -s` runs a fifth of
that.
"""
