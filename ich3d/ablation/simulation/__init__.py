"""Simulated scores on real label sequences, for which the best possible use of neighbours is known.

`sequences` reads labels and positions, `evidence` draws what an encoder saw of each slice, `chain`
says how labels follow each other, `smoother` computes the answer from both, and `stages` gives the
scores to the context models and stackers of a run.
"""
