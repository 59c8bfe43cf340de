"""The slice encoder: HU of a slice and its neighbours to an embedding and six logits.

`encoder` is the network, `backbones` the MONAI networks that it is built on, `dataset` what it
reads, `augment` what training does to that, `train` one fold's training, `embed` its output of
whole series.
"""
