"""The context model: a bidirectional GRU over the embeddings of a whole series.

`bigru` is the network, `dataset` what it reads, `geometry` where slices lie, `train` one fold's
training, `score` its probabilities of one series, `align` how embeddings of different encoders
are made comparable, `shuffle` the control experiments.
"""
