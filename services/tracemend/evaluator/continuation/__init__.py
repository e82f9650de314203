"""The continuation safety ratio: how safe a model's own continuations of a trace are, place by place (methods.md §7).

An instrument of analysis: it shows where a trace turns and how close a compliance cue lies to that place. It costs k
samples per place, so data are built with detectors instead. Pure: `embedded.csr` draws and judges the continuations.
"""
