"""The papers' claims on the proving ground: run over several base seeds, measured, held against criteria, written down.

`python -m benchmarks.fidelity` writes docs/fidelity.md; tests/fidelity runs one seed of the same. `runs` makes a seed's
evidence, `claims` says what is claimed and when a claim is met, `figures` has the intervals, `page` writes the table.
"""
